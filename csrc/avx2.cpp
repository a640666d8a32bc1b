// AVX2 with FMA (Haswell, Zen and later).
#if defined(__AVX2__)  // by this file's own compile options: see CMakeLists.txt
#include <immintrin.h>

#include "rows.h"

namespace {

using sqap::kPanel;
using sqap::TileJob;

inline __m256i bytes_at(const void *p) {
  return _mm256_loadu_si256(static_cast<const __m256i *>(p));
}

inline __m256i to_bfloat16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
}

struct V {
  __m256 low, high;
  static constexpr int kRadix = 4;

  static V set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static V load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static V load_bfloat16(const uint16_t *p) {
    const auto half = [p](int i) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p) + i);
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
    };
    return {half(0), half(1)};
  }
  static V load_int8(const int8_t *p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
  }
  void store(float *p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
  void store_first(float *p, int64_t n) const {
    if (n >= 16) return store(p);
    float all[16];
    store(all);
    for (int64_t i = 0; i < n; i++) p[i] = all[i];
  }
  void store_bfloat16(uint16_t *p, int64_t n) const {
    uint16_t all[16];
    const __m256i packed =
        _mm256_permute4x64_epi64(_mm256_packus_epi32(to_bfloat16(low), to_bfloat16(high)), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(n >= 16 ? p : all), packed);
    for (int64_t i = 0; n < 16 && i < n; i++) p[i] = all[i];
  }
  V rounded_to_bfloat16() const {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(to_bfloat16(low), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(to_bfloat16(high), 16))};
  }
  V operator+(V o) const { return {_mm256_add_ps(low, o.low), _mm256_add_ps(high, o.high)}; }
  V operator-(V o) const { return {_mm256_sub_ps(low, o.low), _mm256_sub_ps(high, o.high)}; }
  V operator*(V o) const { return {_mm256_mul_ps(low, o.low), _mm256_mul_ps(high, o.high)}; }

  V hadamard() const {
    const auto eight = [](__m256 x) {
      __m256 partner = _mm256_permute_ps(x, 0xb1);
      x = _mm256_blend_ps(_mm256_add_ps(x, partner), _mm256_sub_ps(partner, x), 0xaa);
      partner = _mm256_permute_ps(x, 0x4e);
      x = _mm256_blend_ps(_mm256_add_ps(x, partner), _mm256_sub_ps(partner, x), 0xcc);
      partner = _mm256_permute2f128_ps(x, x, 1);
      return _mm256_blend_ps(_mm256_add_ps(x, partner), _mm256_sub_ps(partner, x), 0xf0);
    };
    const __m256 a = eight(low), b = eight(high);
    return {_mm256_add_ps(a, b), _mm256_sub_ps(a, b)};
  }

  static float largest_magnitude(const float *x, int64_t n) {
    const __m256i positive = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256();
    for (int64_t k = 0; k < n; k += 8)
      largest = _mm256_max_epi32(largest, _mm256_and_si256(bytes_at(x + k), positive));
    int32_t lanes[8], most = 0;
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(lanes), largest);
    for (int32_t lane : lanes) most = lane > most ? lane : most;
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(most)));
  }
  static __m256i code(__m256 x, __m256 inverse, __m256i top) {
    const __m256i q = _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
    return _mm256_max_epi32(_mm256_min_epi32(q, top),
                            _mm256_sub_epi32(_mm256_setzero_si256(), top));
  }
  static int32_t quantize(const float *x, int64_t n, float inverse, int32_t levels, int8_t *codes) {
    const __m256 factor = _mm256_set1_ps(inverse);
    const __m256i top = _mm256_set1_epi32(levels);
    __m256i sum = _mm256_setzero_si256();
    for (int64_t k = 0; k < n; k += 16) {
      const __m256i a = code(_mm256_loadu_ps(x + k), factor, top);
      const __m256i b = code(_mm256_loadu_ps(x + k + 8), factor, top);
      sum = _mm256_add_epi32(sum, _mm256_add_epi32(a, b));
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
      _mm_storeu_si128(
          reinterpret_cast<__m128i *>(codes + k),
          _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    int32_t lanes[8], total = 0;
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(lanes), sum);
    for (int32_t lane : lanes) total += lane;
    return total;
  }
  V nearest(float inverse, int32_t levels) const {
    const __m256 factor = _mm256_set1_ps(inverse);
    const __m256i top = _mm256_set1_epi32(levels);
    return {_mm256_cvtepi32_ps(code(low, factor, top)),
            _mm256_cvtepi32_ps(code(high, factor, top))};
  }
  // As in avx512.h.
  static __m256 logistic(__m256 x) {
    const __m256 y =
        _mm256_max_ps(_mm256_min_ps(_mm256_sub_ps(_mm256_setzero_ps(), x), _mm256_set1_ps(88)),
                      _mm256_set1_ps(-87));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(y, _mm256_set1_ps(1.44269504f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), y);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 e = _mm256_set1_ps(1.0f / 720);
    constexpr float kSeries[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (float c : kSeries) e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(c));
    const __m256i exponent =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    e = _mm256_mul_ps(e, _mm256_castsi256_ps(exponent));
    const __m256 one = _mm256_set1_ps(1);
    return _mm256_div_ps(one, _mm256_add_ps(_mm256_add_ps(one, e), _mm256_sub_ps(x, x)));
  }
  V logistic() const { return {logistic(low), logistic(high)}; }
};

// 8 outputs: unsigned bytes times signed bytes. For 4-bit weights, pairs stay below 15 * 127 * 2,
// which fits 16 bits. 8-bit weights do not fit: inputs 0, 2 and 1, 3 are multiplied as 16-bit
// numbers.
template <int Bits>
inline __m256i add_products(__m256i sum, __m256i w, __m256i a) {
  if (Bits == 4)
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)));
  const __m256i even_w = _mm256_and_si256(w, _mm256_set1_epi16(0xff)),
                odd_w = _mm256_srli_epi16(w, 8);
  const __m256i even_a = _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8),
                odd_a = _mm256_srai_epi16(a, 8);
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even_w, even_a));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(odd_w, odd_a));
}

template <int R, int Bits>
inline void multiply(const uint8_t *w, const int8_t *a, int64_t stride, int64_t steps,
                     __m256i (&sum)[R][4]) {
  const __m256i nibble = _mm256_set1_epi8(15);
#pragma GCC unroll 8
  for (int i = 0; i < 4 * R; i++) sum[i / 4][i % 4] = _mm256_setzero_si256();
  for (int64_t k = 0; k < steps; k++, w += Bits * 16) {
    __m256i part[4];
    for (int c = 0; c < 2; c++) {
      const __m256i bytes = bytes_at(w + 32 * c);
      part[c] = Bits == 8 ? bytes : _mm256_and_si256(bytes, nibble);
      part[2 + c] = Bits == 8 ? bytes_at(w + 64 + 32 * c)
                              : _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
    }
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      int32_t four;
      __builtin_memcpy(&four, a + i * stride + 4 * k, 4);
      const __m256i b = _mm256_set1_epi32(four);
#pragma GCC unroll 4
      for (int c = 0; c < 4; c++) sum[i][c] = add_products<Bits>(sum[i][c], part[c], b);
    }
  }
}

template <int R, int Bits>
void tile_of(const TileJob &job) {
  float total[R][kPanel] = {};
  __m256i sum[R][4];
  for (int64_t g = 0; g < job.groups; g++) {
    multiply<R, Bits>(job.weights + g * job.steps * Bits * 16, job.codes + g * job.steps * 4,
                      job.code_stride, job.steps, sum);
    for (int i = 0; i < R; i++) {
      const __m256i offset =
          _mm256_set1_epi32((Bits == 8 ? 128 : 8) * job.sums[i * job.groups + g]);
      for (int c = 0; c < 4; c++) {
        sum[i][c] = _mm256_sub_epi32(sum[i][c], offset);
        float *at = total[i] + 8 * c;
        const __m256 scale = _mm256_loadu_ps(job.panel_scales + g * kPanel + 8 * c);
        _mm256_storeu_ps(
            at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[i][c]), scale, _mm256_loadu_ps(at)));
      }
    }
  }
  for (int i = 0; i < R; i++) {
    const int64_t at = i * job.out_stride;
    if (job.type == sqap::kInt32) {
      int32_t exact[kPanel];
      for (int c = 0; c < 4; c++)
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(exact + 8 * c), sum[i][c]);
      for (int64_t c = 0; c < job.columns; c++) static_cast<int32_t *>(job.out)[at + c] = exact[c];
      continue;
    }
    for (int c = 0; c < 2; c++) {
      V y = V::load(total[i] + 16 * c) * V::set(job.row_scales[i]);
      if (job.panel_bias) y = y + V::load(job.panel_bias + 16 * c);
      const int64_t left = job.columns - 16 * c;
      if (job.type == sqap::kBfloat16)
        y.store_bfloat16(static_cast<uint16_t *>(job.out) + at + 16 * c, left);
      else
        y.store_first(static_cast<float *>(job.out) + at + 16 * c, left);
    }
  }
}

void tile(const TileJob &job, int64_t rows, int32_t bits) {
  if (rows == 2)
    bits == 4 ? tile_of<2, 4>(job) : tile_of<2, 8>(job);
  else
    bits == 4 ? tile_of<1, 4>(job) : tile_of<1, 8>(job);
}

double peak(int64_t rounds) {
  __m256i s[6], w = _mm256_set1_epi8(3);
#pragma GCC unroll 6
  for (int i = 0; i < 6; i++) asm volatile("" : "=x"(s[i]) : "0"(w));  // one is not like another
  for (int64_t r = 0; r < rounds; r++) {
    asm volatile("" : "+x"(w));
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) s[i] = add_products<4>(s[i], w, w);
  }
  asm volatile("" : : "x"(s[0]), "x"(s[1]), "x"(s[2]), "x"(s[3]), "x"(s[4]), "x"(s[5]));
  return static_cast<double>(rounds) * 6 * 32;
}

}  // namespace

const sqap::Kernels *sqap::avx2_kernels() {
  static const Kernels kernels = {"avx2",        2,    kChunkBytes,      quantize_rows<V>,
                                  round_rows<V>, tile, gate_multiply<V>, peak};
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kernels : nullptr;
}
#else
#include "kernels.h"
const sqap::Kernels *sqap::avx2_kernels() { return nullptr; }
#endif
