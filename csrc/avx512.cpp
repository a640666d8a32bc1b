// AVX-512 with VNNI (Ice Lake, Zen 4 and later; Cascade Lake).
#if defined(__AVX512VNNI__)  // by this file's own compile options: see CMakeLists.txt
#include <immintrin.h>

#include "rows.h"

namespace {

using sqap::kPanel;
using sqap::TileJob;

inline __m512i to_bfloat16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0));
}

inline __mmask16 first(int64_t lanes) {
  return lanes >= 16 ? 0xffff : lanes <= 0 ? 0 : static_cast<__mmask16>((1u << lanes) - 1);
}

struct V {
  __m512 v;
  static constexpr int kRadix = 16;

  static V set(float x) { return {_mm512_set1_ps(x)}; }
  static V load(const float *p) { return {_mm512_loadu_ps(p)}; }
  static V load_bfloat16(const uint16_t *p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
  }
  static V load_int8(const int8_t *p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
  }
  void store(float *p) const { _mm512_storeu_ps(p, v); }
  void store_first(float *p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void store_bfloat16(uint16_t *p, int64_t n) const {
    _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(to_bfloat16(v)));
  }
  V rounded_to_bfloat16() const {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(to_bfloat16(v), 16))};
  }
  V operator+(V o) const { return {_mm512_add_ps(v, o.v)}; }
  V operator-(V o) const { return {_mm512_sub_ps(v, o.v)}; }
  V operator*(V o) const { return {_mm512_mul_ps(v, o.v)}; }

  // Transform of the 16 lanes: partner plus or minus itself, four times.
  V hadamard() const {
    const auto step = [](__m512 x, __m512 partner, __mmask16 upper) {
      return _mm512_mask_sub_ps(_mm512_add_ps(x, partner), upper, partner, x);
    };
    __m512 x = v;
    x = step(x, _mm512_permute_ps(x, 0xb1), 0xaaaa);
    x = step(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
    x = step(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
    x = step(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00);
    return {x};
  }

  // As integers, magnitudes compare as they do as floats, and a NaN is above all.
  static float largest_magnitude(const float *x, int64_t n) {
    const __m512i positive = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t k = 0; k < n; k += 16)
      largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_loadu_si512(x + k), positive));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(largest))));
  }

  static __m512i code(__m512 x, __m512 inverse, __m512i top) {
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    return _mm512_max_epi32(_mm512_min_epi32(q, top), _mm512_sub_epi32(_mm512_setzero_si512(), top));
  }
  // Writes n codes, n a multiple of 16, and returns their sum.
  static int32_t quantize(const float *x, int64_t n, float inverse, int32_t levels, int8_t *codes) {
    const __m512 factor = _mm512_set1_ps(inverse);
    const __m512i top = _mm512_set1_epi32(levels);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t k = 0; k < n; k += 16) {
      const __m512i q = code(_mm512_loadu_ps(x + k), factor, top);
      _mm_storeu_si128(reinterpret_cast<__m128i *>(codes + k), _mm512_cvtepi32_epi8(q));
      sum = _mm512_add_epi32(sum, q);
    }
    return _mm512_reduce_add_epi32(sum);
  }
  V nearest(float inverse, int32_t levels) const {
    return {_mm512_cvtepi32_ps(code(v, _mm512_set1_ps(inverse), _mm512_set1_epi32(levels)))};
  }

  // 1 / (1 + e^-x): e^-x = 2^n e^r with |r| <= ln 2 / 2, e^r by its series.
  V logistic() const {
    const __m512 y = _mm512_max_ps(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), v),
                                                 _mm512_set1_ps(88)), _mm512_set1_ps(-88));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(y, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), y);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 e = _mm512_set1_ps(1.0f / 720);
    constexpr float kSeries[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (float c : kSeries)
      e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(c));
    e = _mm512_scalef_ps(e, n);
    // min and max lose a NaN: it comes back with v - v.
    const __m512 one = _mm512_set1_ps(1);
    return {_mm512_div_ps(one, _mm512_add_ps(_mm512_add_ps(one, e), _mm512_sub_ps(v, v)))};
  }
};

struct Pair {
  __m512i low, high;
};

template <int Bits>
inline Pair weights_at(const uint8_t *w) {
  const __m512i bytes = _mm512_loadu_si512(w);
  if (Bits == 8) return {bytes, _mm512_loadu_si512(w + 64)};
  const __m512i nibble = _mm512_set1_epi8(15);
  return {_mm512_and_si512(bytes, nibble), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble)};
}

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

inline void store(const TileJob &job, int64_t row, int c, __m512 y) {
  const int64_t at = row * job.out_stride + 16 * c;
  if (job.type == sqap::kBfloat16)
    V{y}.store_bfloat16(static_cast<uint16_t *>(job.out) + at, job.columns - 16 * c);
  else
    V{y}.store_first(static_cast<float *>(job.out) + at, job.columns - 16 * c);
}

template <int R, int Bits>
void tile(const TileJob &job) {
  const __m512i zero = _mm512_set1_epi32(Bits == 8 ? 128 : 8);
  __m512i sum[R][2];
  if (job.groups == 1) {
    multiply<R, Bits>(job.weights, job.codes, job.code_stride, job.steps, sum);
    for (int i = 0; i < R; i++) {
      const __m512i offset = _mm512_mullo_epi32(zero, _mm512_set1_epi32(job.sums[i]));
      const __m512 row_scale = _mm512_set1_ps(job.row_scales[i]);
      for (int c = 0; c < 2; c++) {
        const __m512i exact = _mm512_sub_epi32(sum[i][c], offset);
        if (job.type == sqap::kInt32) {
          _mm512_mask_storeu_epi32(static_cast<int32_t *>(job.out) + i * job.out_stride + 16 * c,
                                   first(job.columns - 16 * c), exact);
          continue;
        }
        __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_loadu_ps(job.panel_scales + 16 * c));
        y = _mm512_mul_ps(y, row_scale);
        if (job.panel_bias) y = _mm512_add_ps(y, _mm512_loadu_ps(job.panel_bias + 16 * c));
        store(job, i, c, y);
      }
    }
    return;
  }
  alignas(64) float total[R][kPanel] = {};
  for (int64_t g = 0; g < job.groups; g++) {
    multiply<R, Bits>(job.weights + g * job.steps * Bits * 16, job.codes + g * job.steps * 4,
                      job.code_stride, job.steps, sum);
    for (int i = 0; i < R; i++) {
      const __m512i offset = _mm512_mullo_epi32(zero, _mm512_set1_epi32(job.sums[i * job.groups + g]));
      for (int c = 0; c < 2; c++) {
        const __m512 y = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[i][c], offset));
        const __m512 scale = _mm512_loadu_ps(job.panel_scales + g * kPanel + 16 * c);
        _mm512_store_ps(total[i] + 16 * c, _mm512_fmadd_ps(y, scale, _mm512_load_ps(total[i] + 16 * c)));
      }
    }
  }
  for (int i = 0; i < R; i++)
    for (int c = 0; c < 2; c++) {
      __m512 y = _mm512_mul_ps(_mm512_load_ps(total[i] + 16 * c), _mm512_set1_ps(job.row_scales[i]));
      if (job.panel_bias) y = _mm512_add_ps(y, _mm512_loadu_ps(job.panel_bias + 16 * c));
      store(job, i, c, y);
    }
}

constexpr int64_t kMaxRows = 14;  // 28 sums, 2 weights, a mask and a broadcast: 32 registers

template <int Bits>
void tile_of(const TileJob &job, int64_t rows) {
  using Tile = void (*)(const TileJob &);
  static constexpr Tile kTiles[kMaxRows] = {
      tile<1, Bits>, tile<2, Bits>,  tile<3, Bits>,  tile<4, Bits>,  tile<5, Bits>,
      tile<6, Bits>, tile<7, Bits>,  tile<8, Bits>,  tile<9, Bits>,  tile<10, Bits>,
      tile<11, Bits>, tile<12, Bits>, tile<13, Bits>, tile<14, Bits>};
  kTiles[rows - 1](job);
}

void any_tile(const TileJob &job, int64_t rows, int32_t bits) {
  bits == 4 ? tile_of<4>(job, rows) : tile_of<8>(job, rows);
}

double peak(int64_t rounds) {
  __m512i a = _mm512_set1_epi8(3), b = a, s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a;
  for (int64_t i = 0; i < rounds; i++)
    asm volatile(
        "vpdpbusd %9, %8, %0\n vpdpbusd %9, %8, %1\n vpdpbusd %9, %8, %2\n vpdpbusd %9, %8, %3\n"
        "vpdpbusd %9, %8, %4\n vpdpbusd %9, %8, %5\n vpdpbusd %9, %8, %6\n vpdpbusd %9, %8, %7"
        : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7)
        : "v"(a), "v"(b));
  return static_cast<double>(rounds) * 8 * 64;
}

}  // namespace

const sqap::Kernels *sqap::avx512_kernels() {
  static const Kernels kernels = {"avx512_vnni", kMaxRows, quantize_rows<V>, round_rows<V>,
                                  any_tile, gate_multiply<V>, peak};
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
