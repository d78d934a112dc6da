// goto, virtual, new, delete, try, catch, throw, double, std::vector, asm: words, and no code. Accents too: café.
#include <metal_stdlib>
using namespace metal;

/* float* pointer; static int counter; thread_local, dynamic_cast and typeid */
kernel void assign(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  float new_value = 1.0f;  // no `new` here
  float delete_me = 2.0f;
  y[i] = new_value + delete_me;
}
