// No inline assembly.
#include <metal_stdlib>
using namespace metal;

kernel void assemble(device float* y [[buffer(0)]]) {
#ifndef FIXED
  asm volatile("nop");  // expect: unsupported-keyword; allow: compile
#endif
  y[0] = 1.0f;
}
