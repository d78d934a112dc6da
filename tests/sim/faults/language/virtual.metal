// No virtual functions.
#include <metal_stdlib>
using namespace metal;

struct Shape {
#ifdef FIXED
  float area() const {
#else
  virtual float area() const {  // expect: unsupported-keyword; allow: compile
#endif
    return 1.0f;
  }
};

kernel void call(device float* y [[buffer(0)]]) {
  Shape shape;
  y[0] = shape.area();
}
