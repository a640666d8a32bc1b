// AVX-512 with VNNI (Ice Lake, Zen 4 and later; Cascade Lake).
#if defined(__AVX512VNNI__)  // by this file's own compile options: see CMakeLists.txt
#include "avx512.h"

namespace {

// Sums of products over `steps` times 4 inputs. Few rows leave the multipliers waiting for one
// another's sums: then every second (or fourth) step has sums of its own.
template <int R, int Bits>
inline void multiply(const uint8_t *w, const int8_t *a, int64_t stride, int64_t steps,
                     __m512i (&sum)[R][2]) {
  constexpr int kChains = R <= 2 ? 4 : R <= 5 ? 2 : 1;
  constexpr int64_t kBytes = Bits * 16;
  __m512i acc[kChains][R][2];
#pragma GCC unroll 4
  for (int u = 0; u < kChains; u++)
#pragma GCC unroll 16
    for (int i = 0; i < R; i++) acc[u][i][0] = acc[u][i][1] = _mm512_setzero_si512();
  const auto step = [&](int u, int64_t k) __attribute__((always_inline)) {
    const Pair pair = weights_at<Bits>(w + k * kBytes);
    _mm_prefetch(reinterpret_cast<const char *>(w + k * kBytes + 2048), _MM_HINT_T0);
#pragma GCC unroll 16
    for (int i = 0; i < R; i++) {
      int32_t four;
      __builtin_memcpy(&four, a + i * stride + 4 * k, 4);
      const __m512i b = _mm512_set1_epi32(four);
      acc[u][i][0] = _mm512_dpbusd_epi32(acc[u][i][0], pair.low, b);
      acc[u][i][1] = _mm512_dpbusd_epi32(acc[u][i][1], pair.high, b);
    }
  };
  int64_t k = 0;
  for (; k + kChains <= steps; k += kChains)
#pragma GCC unroll 4
    for (int u = 0; u < kChains; u++) step(u, k + u);
  for (; k < steps; k++) step(0, k);
#pragma GCC unroll 16
  for (int i = 0; i < R; i++)
#pragma GCC unroll 2
    for (int c = 0; c < 2; c++) {
      sum[i][c] = acc[0][i][c];
#pragma GCC unroll 4
      for (int u = 1; u < kChains; u++) sum[i][c] = _mm512_add_epi32(sum[i][c], acc[u][i][c]);
    }
}

template <int R, int Bits>
void tile(const TileJob &job) {
  __m512i sum[R][2];
  if (job.groups == 1) {
    multiply<R, Bits>(job.weights, job.codes, job.code_stride, job.steps, sum);
    for (int i = 0; i < R; i++) finish<Bits>(job, i, sum[i][0], sum[i][1]);
    return;
  }
  alignas(64) float total[R][kPanel] = {};
  for (int64_t g = 0; g < job.groups; g++) {
    multiply<R, Bits>(job.weights + g * job.steps * Bits * 16, job.codes + g * job.steps * 4,
                      job.code_stride, job.steps, sum);
    for (int i = 0; i < R; i++) add_group<Bits>(job, i, g, sum[i][0], sum[i][1], total[i]);
  }
  for (int i = 0; i < R; i++) finish_groups(job, i, total[i]);
}

constexpr int64_t kMaxRows = 14;  // 28 sums, 2 weights, a mask and a broadcast: 32 registers

template <int Bits>
void tile_of(const TileJob &job, int64_t rows) {
  using Tile = void (*)(const TileJob &);
  static constexpr Tile kTiles[kMaxRows] = {
      tile<1, Bits>,  tile<2, Bits>,  tile<3, Bits>,  tile<4, Bits>, tile<5, Bits>,
      tile<6, Bits>,  tile<7, Bits>,  tile<8, Bits>,  tile<9, Bits>, tile<10, Bits>,
      tile<11, Bits>, tile<12, Bits>, tile<13, Bits>, tile<14, Bits>};
  kTiles[rows - 1](job);
}

void any_tile(const TileJob &job, int64_t rows, int32_t bits) {
  bits == 4 ? tile_of<4>(job, rows) : tile_of<8>(job, rows);
}

// Sixteen sums: a product takes up to five cycles, and two can begin in each.
double peak(int64_t rounds) {
  constexpr int kSums = 16;
  __m512i codes = _mm512_set1_epi8(3), sums[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; i++) asm volatile("" : "=v"(sums[i]) : "0"(codes));
  for (int64_t r = 0; r < rounds; r++) {
    asm volatile("" : "+v"(codes));
#pragma GCC unroll 16
    for (int i = 0; i < kSums; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], codes, codes);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSums; i++) asm volatile("" : : "v"(sums[i]));
  return static_cast<double>(rounds) * kSums * 64;
}

}  // namespace

const sqap::Kernels *sqap::avx512_kernels() {
  static const Kernels kernels = {"avx512_vnni", kMaxRows, kChunkBytes,      quantize_rows<V>,
                                  round_rows<V>, any_tile, gate_multiply<V>, peak};
  __builtin_cpu_init();
  const bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni");
  return here ? &kernels : nullptr;
}
#else
#include "kernels.h"
const sqap::Kernels *sqap::avx512_kernels() { return nullptr; }
#endif
