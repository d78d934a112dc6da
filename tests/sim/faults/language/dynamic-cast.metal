// No dynamic_cast.
#include <metal_stdlib>
using namespace metal;

struct Base {
  float value;
};

struct Derived : Base {};

kernel void cast(device float* y [[buffer(0)]]) {
  Derived derived;
  derived.value = 1.0f;
#ifdef FIXED
  thread Base* base = &derived;
#else
  thread Base* base = dynamic_cast<thread Base*>(&derived);  // expect: unsupported-keyword; allow: compile
#endif
  y[0] = base->value;
}
