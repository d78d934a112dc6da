// Declares the functions that the executor provides, under the names that Apple's compiler gives them.
#pragma once
#pragma clang system_header

// air.<name>.<type> as metalsim::air::name, an overload per type.
#define METALSIM_AIR(Result, name, type, ...) Result name(__VA_ARGS__) __asm__("air." #name "." #type);

// M(name, T, type) for each type of number; the bits of bfloat travel as they are.
#define METALSIM_FOR_FLOATS(M, name) \
  M(name, float, f32)                \
  M(name, half, f16)
#define METALSIM_FOR_SIGNED(M, name) \
  M(name, char, s.i8)                \
  M(name, short, s.i16)              \
  M(name, int, s.i32)                \
  M(name, long, s.i64)
#define METALSIM_FOR_UNSIGNED(M, name) \
  M(name, uchar, u.i8)                 \
  M(name, ushort, u.i16)               \
  M(name, uint, u.i32)                 \
  M(name, ulong, u.i64)
#define METALSIM_FOR_INTEGERS(M, name) METALSIM_FOR_SIGNED(M, name) METALSIM_FOR_UNSIGNED(M, name)
#define METALSIM_FOR_NUMBERS(M, name) METALSIM_FOR_FLOATS(M, name) METALSIM_FOR_INTEGERS(M, name)
