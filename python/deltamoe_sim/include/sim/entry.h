// What the generated code at a kernel's end uses: its entry, which the executor calls, and its signature, which is read
// back from the compiled module.
#pragma once
#pragma clang system_header

namespace metal {
template <class T, int N>
struct vec;
template <class T, int N>
struct packed_vec;
template <class T>
struct atomic;
}  // namespace metal

namespace metalsim {

// ---- threadgroup variables

__local void* threadgroup_memory(uint id, ulong size, ulong align,
                                 const __constant char* name) __asm__("sim.threadgroup");

template <class T, uint Id>
__attribute__((always_inline)) inline __local T& threadgroup_variable(const __constant char* name) {
  return *(__local T*)threadgroup_memory(Id, sizeof(T), alignof(T), name);
}

// ---- element types, numbered as source.py's DTYPES

template <class T, class... Types>
constexpr int number_among() {
  int number = 0, i = 0;
  ((i++, number = __is_same(T, Types) ? i : number), ...);
  return number;
}

template <class T>
constexpr const __global int dtype =
    number_among<T, bool, char, uchar, short, ushort, int, uint, long, ulong, half, bfloat, float>();
template <>
constexpr const __global int dtype<signed char> = dtype<char>;
template <class T>
constexpr const __global int dtype<__global T> = dtype<T>;
template <class T, int N>
constexpr const __global int dtype<metal::vec<T, N>> = dtype<T>;
template <class T, int N>
constexpr const __global int dtype<metal::packed_vec<T, N>> = dtype<T>;
template <class T>
constexpr const __global int dtype<metal::atomic<T>> = dtype<T>;

// ---- parameters

enum slot { by_type = -1, buffer_slot = 0, threadgroup_slot = 1, position_slot = 2 };

// What the attribute of a parameter says: [[buffer(2)]] is {buffer_slot, 2}. Nothing at all is {by_type, -1}.
struct attribute {
  slot kind;
  int index;
};

// A parameter that is a pointer or a reference, taken apart; any other is a position.
template <class T>
struct parameter {
  static constexpr const __global slot kind = position_slot;
  static constexpr const __global bool reference = false;
  using target = T;
};
#define METALSIM_PARAMETER(space, declarator, its_kind, is_reference) \
  template <class T>                                                  \
  struct parameter<space T declarator> {                              \
    static constexpr const __global slot kind = its_kind;             \
    static constexpr const __global bool reference = is_reference;    \
    using target = T;                                                 \
  };
METALSIM_PARAMETER(device, *, buffer_slot, false)
METALSIM_PARAMETER(device, &, buffer_slot, true)
METALSIM_PARAMETER(__global, *, buffer_slot, false)
METALSIM_PARAMETER(__global, &, buffer_slot, true)
METALSIM_PARAMETER(__local, *, threadgroup_slot, false)
METALSIM_PARAMETER(__local, &, threadgroup_slot, true)
#undef METALSIM_PARAMETER

template <class T>
constexpr int size_of() {
  if constexpr (__is_void(T)) {
    return 1;
  } else {
    return sizeof(T);
  }
}

// ---- signatures

// The words of one parameter: kind, index, dtype, size, whether it is a reference, whether it is read only.
constexpr const __global int parameter_words = 6;

template <int Parameters>
struct signature_record {
  int max_threads;
  int words[Parameters * parameter_words + 1];
};

template <class Function>
struct signature {
  static_assert(sizeof(signature*) == 0, "a kernel returns void");
};

template <class... Parameters>
struct signature<void(Parameters...)> {
  static constexpr const __global int count = sizeof...(Parameters);

  template <int I>
  using type = __type_pack_element<I, Parameters...>;

  // A buffer or threadgroup slot without an index gets the first one of its kind that no other parameter names.
  template <class... Attributes>
  static constexpr signature_record<count> describe(int max_threads, Attributes... given) {
    const attribute attributes[] = {given..., {by_type, -1}};
    const int of_types[][parameter_words] = {
        {parameter<Parameters>::kind, -1,
         dtype<__remove_cv(__remove_all_extents(typename parameter<Parameters>::target))>,
         size_of<typename parameter<Parameters>::target>(), parameter<Parameters>::reference,
         __is_const(__remove_all_extents(typename parameter<Parameters>::target))}...,
        {}};
    signature_record<count> record = {max_threads, {}};
    bool taken[3][64] = {};
    for (int i = 0; i < count; i++) {
      const int index = attributes[i].index;
      if (index >= 0 && index < 64) taken[of_types[i][0]][index] = true;
    }
    for (int i = 0; i < count; i++) {
      const int kind = of_types[i][0];
      int index = attributes[i].index;
      if (index < 0) {
        for (index = 0; taken[kind][index];) index++;
        taken[kind][index] = true;
      }
      for (int j = 0; j < parameter_words; j++) record.words[i * parameter_words + j] = of_types[i][j];
      record.words[i * parameter_words + 1] = index;
    }
    return record;
  }
};

// ---- arguments

template <class T>
struct position {
  static_assert(__is_integral(T), "a position is an integer, or a vector of two or three");
  static T from(const uint* words) { return T(words[0]); }
};
template <class T>
struct position<metal::vec<T, 2>> {
  static metal::vec<T, 2> from(const uint* words) { return metal::vec<T, 2>(words[0], words[1]); }
};
template <class T>
struct position<metal::vec<T, 3>> {
  static metal::vec<T, 3> from(const uint* words) { return metal::vec<T, 3>(words[0], words[1], words[2]); }
};

// The argument for a parameter of type T, of which its attribute says Given.
template <class T, slot Given, int Index>
__attribute__((always_inline)) inline T argument(void** buffers, void** threadgroups, const uint* words) {
  constexpr slot kind = parameter<T>::kind;
  static_assert(kind != position_slot || Given == position_slot,
                "a kernel's parameter is a pointer or reference to device, constant or threadgroup memory, or a value "
                "with a position attribute such as [[thread_position_in_grid]]");
  static_assert(Given == by_type || Given == kind, "the attribute of a kernel's parameter does not fit its type");
  if constexpr (kind == position_slot) {
    return position<__remove_cv(T)>::from(words + Index);
  } else {
    static_assert(Index < 31, "buffer and threadgroup indices go from 0 to 30");
    void* pointer = kind == buffer_slot ? buffers[Index] : threadgroups[Index];
    if constexpr (parameter<T>::reference) {
      return *(__remove_reference_t(T)*)pointer;
    } else {
      return (T)pointer;
    }
  }
}

}  // namespace metalsim
