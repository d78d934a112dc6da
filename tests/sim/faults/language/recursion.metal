// A function that calls itself.
#include <metal_stdlib>
using namespace metal;

uint factorial(uint n) {  // expect: recursion
#ifdef FIXED
  uint product = 1;
  for (uint j = 2; j <= n; j++) {
    product *= j;
  }
  return product;
#else
  return n < 2 ? 1 : n * factorial(n - 1);
#endif
}

kernel void call(device uint* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = factorial(i % 8);
}
