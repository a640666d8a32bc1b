// A small pool of threads: no second OpenMP runtime beside torch's.
#pragma once
#include <cstdint>
#include <functional>

namespace sqap {

// Runs work(begin, end) over parts of 0..count, on up to `threads` threads, this one among them.
// Each part but the last is a multiple of `grain`. One caller at a time; others wait their turn.
void parallel(int64_t threads, int64_t count, int64_t grain,
              const std::function<void(int64_t, int64_t)> &work);

}  // namespace sqap
