#include "parallel.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace {

class Pool {
 public:
  void run(int64_t parts, const std::function<void(int64_t)> &work) {
    std::lock_guard<std::mutex> turn(turn_);
    std::unique_lock<std::mutex> lock(mutex_);
    while (static_cast<int64_t>(threads_.size()) < parts - 1) {
      const int64_t part = static_cast<int64_t>(threads_.size()) + 1;
      threads_.emplace_back([this, part, seen = generation_] { serve(part, seen); });
    }
    work_ = &work;
    parts_ = parts;
    left_ = parts - 1;
    generation_++;
    lock.unlock();
    started_.notify_all();
    work(0);
    lock.lock();
    finished_.wait(lock, [this] { return left_ == 0; });
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    started_.notify_all();
    for (std::thread &thread : threads_) thread.join();
  }

 private:
  void serve(int64_t part, int64_t seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      started_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      if (part >= parts_) continue;
      const std::function<void(int64_t)> &work = *work_;
      lock.unlock();
      work(part);
      lock.lock();
      if (--left_ == 0) finished_.notify_one();
    }
  }

  std::mutex turn_, mutex_;
  std::condition_variable started_, finished_;
  std::vector<std::thread> threads_;
  const std::function<void(int64_t)> *work_ = nullptr;
  int64_t parts_ = 0, left_ = 0, generation_ = 0;
  bool stopping_ = false;
};

}  // namespace

void sqap::parallel(int64_t threads, int64_t count, int64_t grain,
                    const std::function<void(int64_t, int64_t)> &work) {
  const int64_t grains = (count + grain - 1) / grain;
  const int64_t parts = threads < grains ? threads : grains;
  if (parts <= 1) {
    if (count > 0) work(0, count);
    return;
  }
  static Pool pool;
  pool.run(parts, [&](int64_t part) {
    const int64_t begin = grains * part / parts * grain, end = grains * (part + 1) / parts * grain;
    work(begin, end < count ? end : count);
  });
}
