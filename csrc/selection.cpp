// Farthest point sampling: a loop over few numbers. As separate torch operations, its steps would
// cost more than the layers that pruning saves.
#include <cmath>
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// The order of torch: a NaN is greater than any number, and is kept.
inline bool above(float a, float b) { return a > b || (std::isnan(a) && !std::isnan(b)); }
inline float lower(float a, float b) { return std::isnan(a) || a < b ? a : b; }

}  // namespace

// separation [count][count]; nearest [count]: distance of each point to those chosen before, in and
// out. Writes `picks` points, each the farthest from all before; of equals, the lowest index.
EXPORT void sqap_farthest_points(const float *separation, float *nearest, int64_t count,
                                 int64_t picks, int64_t *points) {
  for (int64_t p = 0; p < picks; p++) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
      if (above(nearest[i], nearest[best])) best = i;
    points[p] = best;
    const float *row = separation + best * count;
    for (int64_t i = 0; i < count; i++) nearest[i] = lower(row[i], nearest[i]);
  }
}
