// Work space, and large pages for what is large.
#pragma once
#include <cstdint>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels.h"

namespace sqap {

constexpr int64_t kLargePage = 2 * 1024 * 1024;

// Asks for large pages under memory that nothing was written to yet: a pass over megabytes with
// small ones spends much of its time on looking up where they are.
inline void ask_for_large_pages([[maybe_unused]] void *memory, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t mask = kLargePage - 1, start = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (start + mask) & ~mask, end = (start + bytes) & ~mask;
  if (first < end) madvise(reinterpret_cast<void *>(first), end - first, MADV_HUGEPAGE);
#endif
}

// Aligned memory that grows and is kept for the thread's next call.
class Buffer {
 public:
  ~Buffer() { std::free(data_); }
  char *get(int64_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      const int64_t page = bytes < kLargePage ? 4096 : kLargePage;
      size_ = round_up(bytes, page);
      data_ = static_cast<char *>(std::aligned_alloc(page, size_));
      if (!data_) std::abort();
      ask_for_large_pages(data_, size_);
    }
    return data_;
  }

 private:
  char *data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace sqap
