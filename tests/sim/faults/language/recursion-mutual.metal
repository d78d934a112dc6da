// Two functions that call each other.
#include <metal_stdlib>
using namespace metal;

bool is_odd(uint n);

bool is_even(uint n) {  // expect: recursion
#ifdef FIXED
  return n % 2 == 0;
#else
  return n == 0 || is_odd(n - 1);
#endif
}

bool is_odd(uint n) {  // expect: recursion
  return n != 0 && is_even(n - 1);
}

kernel void call(device uint* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = is_even(i) ? 1 : 0;
}
