// Memory straight from the system: zeroed, and taking room only where it is touched.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <utility>

namespace deltamoe::sim {

class Pages {
 public:
  static constexpr size_t kPage = 16384;  // or a multiple of it, on every system

  Pages() = default;
  explicit Pages(size_t size) : size_((size + kPage - 1) / kPage * kPage) {
    if (size_ == 0) {
      return;
    }
    void* p = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
      throw std::bad_alloc();
    }
    data_ = static_cast<char*>(p);
  }
  ~Pages() {
    if (data_ != nullptr) {
      munmap(data_, size_);
    }
  }
  Pages(Pages&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Pages& operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }
  bool contains(const void* p) const { return static_cast<size_t>(static_cast<const char*>(p) - data_) < size_; }
  // Makes whole pages inaccessible.
  void forbid(size_t offset, size_t size) { mprotect(data_ + offset, size, PROT_NONE); }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace deltamoe::sim
