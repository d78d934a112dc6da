// Functions of scalars made functions of vectors, lane by lane.
#pragma once
#pragma clang system_header

#include <metal_types>

#define METALSIM_LANEWISE_1(Result, name)                \
  template <class T>                                     \
  METAL_FUNC vec<Result, 2> name(vec<T, 2> a) {          \
    return {name(a.x), name(a.y)};                       \
  }                                                      \
  template <class T>                                     \
  METAL_FUNC vec<Result, 3> name(vec<T, 3> a) {          \
    return {name(a.x), name(a.y), name(a.z)};            \
  }                                                      \
  template <class T>                                     \
  METAL_FUNC vec<Result, 4> name(vec<T, 4> a) {          \
    return {name(a.x), name(a.y), name(a.z), name(a.w)}; \
  }

#define METALSIM_LANEWISE_2(Result, name)                                    \
  template <class T>                                                         \
  METAL_FUNC vec<Result, 2> name(vec<T, 2> a, vec<T, 2> b) {                 \
    return {name(a.x, b.x), name(a.y, b.y)};                                 \
  }                                                                          \
  template <class T>                                                         \
  METAL_FUNC vec<Result, 3> name(vec<T, 3> a, vec<T, 3> b) {                 \
    return {name(a.x, b.x), name(a.y, b.y), name(a.z, b.z)};                 \
  }                                                                          \
  template <class T>                                                         \
  METAL_FUNC vec<Result, 4> name(vec<T, 4> a, vec<T, 4> b) {                 \
    return {name(a.x, b.x), name(a.y, b.y), name(a.z, b.z), name(a.w, b.w)}; \
  }

#define METALSIM_LANEWISE_3(Result, name)                                                        \
  template <class T>                                                                             \
  METAL_FUNC vec<Result, 2> name(vec<T, 2> a, vec<T, 2> b, vec<T, 2> c) {                        \
    return {name(a.x, b.x, c.x), name(a.y, b.y, c.y)};                                           \
  }                                                                                              \
  template <class T>                                                                             \
  METAL_FUNC vec<Result, 3> name(vec<T, 3> a, vec<T, 3> b, vec<T, 3> c) {                        \
    return {name(a.x, b.x, c.x), name(a.y, b.y, c.y), name(a.z, b.z, c.z)};                      \
  }                                                                                              \
  template <class T>                                                                             \
  METAL_FUNC vec<Result, 4> name(vec<T, 4> a, vec<T, 4> b, vec<T, 4> c) {                        \
    return {name(a.x, b.x, c.x), name(a.y, b.y, c.y), name(a.z, b.z, c.z), name(a.w, b.w, c.w)}; \
  }

// A vector and the same scalar for all lanes, in place of the second (and third) operand.
#define METALSIM_SPLAT_2(name)                                                \
  template <class T, int N, class S, class = enable_if_t<is_arithmetic_v<S>>> \
  METAL_FUNC auto name(vec<T, N> a, S b) {                                    \
    return name(a, vec<T, N>(b));                                             \
  }
#define METALSIM_SPLAT_3(name)                                                \
  template <class T, int N, class S, class = enable_if_t<is_arithmetic_v<S>>> \
  METAL_FUNC auto name(vec<T, N> a, S b, S c) {                               \
    return name(a, vec<T, N>(b), vec<T, N>(c));                               \
  }
