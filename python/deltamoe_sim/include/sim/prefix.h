// Comes before every shader: what Metal has built in and C++ for OpenCL does not, or names otherwise.
#pragma once
#pragma clang system_header
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef long intptr_t;
typedef unsigned long uintptr_t;
typedef __bf16 bfloat;

// Address spaces. A device pointer converts to a constant one, which Metal forbids (lint tells); all else is as in
// Metal.
#define device __attribute__((opencl_global_device))
#define constant const __global
#define threadgroup __local
#define thread __private

// Words that OpenCL reserves and Metal does not.
#define global metalsim_global
#define local metalsim_local
#define generic metalsim_generic
#define pipe metalsim_pipe
#define read_only metalsim_read_only
#define write_only metalsim_write_only
#define read_write metalsim_read_write
#define image1d_t metalsim_image1d_t
#define image2d_t metalsim_image2d_t
#define image3d_t metalsim_image3d_t
#define event_t metalsim_event_t
#define queue_t metalsim_queue_t
#define sampler_t metalsim_sampler_t
#define atomic_int metalsim_atomic_int
#define atomic_uint metalsim_atomic_uint
#define atomic_long metalsim_atomic_long
#define atomic_ulong metalsim_atomic_ulong
#define atomic_bool metalsim_atomic_bool
#define atomic_float metalsim_atomic_float
#define atomic_half metalsim_atomic_half
#define atomic_double metalsim_atomic_double
#define atomic_flag metalsim_atomic_flag
#define atomic_size_t metalsim_atomic_size_t
#define memory_order_relaxed metalsim_memory_order_relaxed

template <class To, class From>
__attribute__((always_inline)) constexpr To as_type(From value) {
  static_assert(sizeof(To) == sizeof(From), "as_type: the two types differ in size");
  return __builtin_bit_cast(To, value);
}

namespace metalsim {

// Clang refuses a cast between half and bfloat; Metal takes it by way of float.
template <class To, class From>
__attribute__((always_inline)) constexpr To value_cast(From value) {
  if constexpr ((__is_same(To, half) && __is_same(From, bfloat)) || (__is_same(To, bfloat) && __is_same(From, half))) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <bool B>
struct only_if {};
template <>
struct only_if<true> {
  using type = int;
};

}  // namespace metalsim

// A pointer moved by an object that converts to an integer: clang's own operators want no address space.
template <class T, class Offset, typename metalsim::only_if<__is_class(Offset)>::type = 0>
        __attribute__((always_inline)) constexpr T * thread &
    operator+=(T * thread & pointer, Offset offset) {
  pointer = pointer + long(offset);
  return pointer;
}
template <class T, class Offset, typename metalsim::only_if<__is_class(Offset)>::type = 0>
        __attribute__((always_inline)) constexpr T * thread &
    operator-=(T * thread & pointer, Offset offset) {
  pointer = pointer - long(offset);
  return pointer;
}

#include "entry.h"
