// Swizzles (v.xy, v.wzyx) as properties: reading one calls get_xy, assigning to one calls put_xy, so that each is a
// plain vec wherever it stands. METALSIM_SWIZZLES_<n> declares those of a vector of n lanes.
#pragma once
#pragma clang system_header

// Sees whether an assigned swizzle names a lane twice; depends on T, so that it is looked at only where one is used.
#define METALSIM_DIFFER(a, b) \
  static_assert(sizeof(T) && #a[0] != #b[0], "a swizzle that is assigned to names a lane twice");

#define METALSIM_SWIZZLE_2(a, b)                                      \
  METAL_FUNC vec<T, 2> get_##a##b() const { return vec<T, 2>(a, b); } \
  METAL_FUNC void put_##a##b(vec<T, 2> v) {                           \
    METALSIM_DIFFER(a, b)                                             \
    a = v.x;                                                          \
    b = v.y;                                                          \
  }                                                                   \
  __declspec(property(get = get_##a##b, put = put_##a##b)) vec<T, 2> a##b;

#define METALSIM_SWIZZLE_3(a, b, c)                                            \
  METAL_FUNC vec<T, 3> get_##a##b##c() const { return vec<T, 3>(a, b, c); }    \
  METAL_FUNC void put_##a##b##c(vec<T, 3> v) {                                 \
    METALSIM_DIFFER(a, b) METALSIM_DIFFER(b, c) METALSIM_DIFFER(a, c) a = v.x; \
    b = v.y;                                                                   \
    c = v.z;                                                                   \
  }                                                                            \
  __declspec(property(get = get_##a##b##c, put = put_##a##b##c)) vec<T, 3> a##b##c;

#define METALSIM_SWIZZLE_4(a, b, c, d)                                                               \
  METAL_FUNC vec<T, 4> get_##a##b##c##d() const { return vec<T, 4>(a, b, c, d); }                    \
  METAL_FUNC void put_##a##b##c##d(vec<T, 4> v) {                                                    \
    METALSIM_DIFFER(a, b)                                                                            \
    METALSIM_DIFFER(a, c)                                                                            \
    METALSIM_DIFFER(a, d) METALSIM_DIFFER(b, c) METALSIM_DIFFER(b, d) METALSIM_DIFFER(c, d) a = v.x; \
    b = v.y;                                                                                         \
    c = v.z;                                                                                         \
    d = v.w;                                                                                         \
  }                                                                                                  \
  __declspec(property(get = get_##a##b##c##d, put = put_##a##b##c##d)) vec<T, 4> a##b##c##d;

// S for the given lanes followed by each lane of a vector of 2, 3 and 4.
#define METALSIM_THEN_2(S, ...) S(__VA_ARGS__, x) S(__VA_ARGS__, y)
#define METALSIM_THEN_3(S, ...) METALSIM_THEN_2(S, __VA_ARGS__) S(__VA_ARGS__, z)
#define METALSIM_THEN_4(S, ...) METALSIM_THEN_3(S, __VA_ARGS__) S(__VA_ARGS__, w)

// S for every pair of lanes.
#define METALSIM_PAIRS_2(S) S(x, x) S(x, y) S(y, x) S(y, y)
#define METALSIM_PAIRS_3(S) METALSIM_PAIRS_2(S) S(x, z) S(y, z) S(z, x) S(z, y) S(z, z)
#define METALSIM_PAIRS_4(S) METALSIM_PAIRS_3(S) S(x, w) S(y, w) S(z, w) S(w, x) S(w, y) S(w, z) S(w, w)

#define METALSIM_TRIPLES_2(a, b) METALSIM_THEN_2(METALSIM_SWIZZLE_3, a, b)
#define METALSIM_TRIPLES_3(a, b) METALSIM_THEN_3(METALSIM_SWIZZLE_3, a, b)
#define METALSIM_TRIPLES_4(a, b) METALSIM_THEN_4(METALSIM_SWIZZLE_3, a, b)

#define METALSIM_QUADS_2(a, b)                 \
  METALSIM_THEN_2(METALSIM_SWIZZLE_4, a, b, x) \
  METALSIM_THEN_2(METALSIM_SWIZZLE_4, a, b, y)
#define METALSIM_QUADS_3(a, b)                 \
  METALSIM_THEN_3(METALSIM_SWIZZLE_4, a, b, x) \
  METALSIM_THEN_3(METALSIM_SWIZZLE_4, a, b, y) \
  METALSIM_THEN_3(METALSIM_SWIZZLE_4, a, b, z)
#define METALSIM_QUADS_4(a, b)                 \
  METALSIM_THEN_4(METALSIM_SWIZZLE_4, a, b, x) \
  METALSIM_THEN_4(METALSIM_SWIZZLE_4, a, b, y) \
  METALSIM_THEN_4(METALSIM_SWIZZLE_4, a, b, z) \
  METALSIM_THEN_4(METALSIM_SWIZZLE_4, a, b, w)

#define METALSIM_SWIZZLES_2            \
  METALSIM_PAIRS_2(METALSIM_SWIZZLE_2) \
  METALSIM_PAIRS_2(METALSIM_TRIPLES_2) \
  METALSIM_PAIRS_2(METALSIM_QUADS_2)   \
  METALSIM_SWIZZLE_2(r, g)             \
  METALSIM_SWIZZLE_2(g, r)
#define METALSIM_SWIZZLES_3            \
  METALSIM_PAIRS_3(METALSIM_SWIZZLE_2) \
  METALSIM_PAIRS_3(METALSIM_TRIPLES_3) \
  METALSIM_PAIRS_3(METALSIM_QUADS_3)   \
  METALSIM_SWIZZLE_2(r, g)             \
  METALSIM_SWIZZLE_2(g, b)             \
  METALSIM_SWIZZLE_3(r, g, b)          \
  METALSIM_SWIZZLE_3(b, g, r)
#define METALSIM_SWIZZLES_4            \
  METALSIM_PAIRS_4(METALSIM_SWIZZLE_2) \
  METALSIM_PAIRS_4(METALSIM_TRIPLES_4) \
  METALSIM_PAIRS_4(METALSIM_QUADS_4)   \
  METALSIM_SWIZZLE_2(r, g)             \
  METALSIM_SWIZZLE_2(g, b)             \
  METALSIM_SWIZZLE_2(b, a)             \
  METALSIM_SWIZZLE_3(r, g, b)          \
  METALSIM_SWIZZLE_3(b, g, r)          \
  METALSIM_SWIZZLE_4(r, g, b, a)       \
  METALSIM_SWIZZLE_4(b, g, r, a)       \
  METALSIM_SWIZZLE_4(a, r, g, b)
