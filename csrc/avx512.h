// Vectors of 16 floats and what follows a product, for the files compiled with AVX-512.
//
// Everything is in an unnamed namespace, as in rows.h.
#pragma once
#include <immintrin.h>

#include "rows.h"

namespace {

using sqap::kPanel;
using sqap::TileJob;

inline __m512i to_bfloat16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)), 16);
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

  // As integers, magnitudes compare as they do as floats, and a NaN compares greater than any.
  static float largest_magnitude(const float *x, int64_t n) {
    const __m512i positive = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t k = 0; k < n; k += 16)
      largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_loadu_si512(x + k), positive));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(largest))));
  }

  static __m512i code(__m512 x, __m512 inverse, __m512i top) {
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    return _mm512_max_epi32(_mm512_min_epi32(q, top),
                            _mm512_sub_epi32(_mm512_setzero_si512(), top));
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
    const __m512 y =
        _mm512_max_ps(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), v), _mm512_set1_ps(88)),
                      _mm512_set1_ps(-88));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(y, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), y);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 e = _mm512_set1_ps(1.0f / 720);
    constexpr float kSeries[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (float c : kSeries) e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(c));
    e = _mm512_scalef_ps(e, n);
    // min and max drop a NaN; v - v restores it.
    const __m512 one = _mm512_set1_ps(1);
    const __m512 d = _mm512_add_ps(_mm512_add_ps(one, e), _mm512_sub_ps(v, v));
    // A division takes twice as long as an estimate and a step of Newton's.
    const __m512 estimate = _mm512_rcp14_ps(d);
    return {_mm512_mul_ps(estimate, _mm512_fnmadd_ps(d, estimate, _mm512_set1_ps(2)))};
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

inline void store(const TileJob &job, int64_t row, int c, __m512 y) {
  const int64_t at = row * job.out_stride + 16 * c;
  if (job.type == sqap::kBfloat16)
    V{y}.store_bfloat16(static_cast<uint16_t *>(job.out) + at, job.columns - 16 * c);
  else
    V{y}.store_first(static_cast<float *>(job.out) + at, job.columns - 16 * c);
}

// Outputs of one row and one panel, of sums that still have the weights' offset.
template <int Bits>
inline void finish(const TileJob &job, int64_t row, __m512i low, __m512i high) {
  const __m512i zero = _mm512_set1_epi32(Bits == 8 ? 128 : 8);
  const __m512i offset = _mm512_mullo_epi32(zero, _mm512_set1_epi32(job.sums[row]));
  const __m512 row_scale = _mm512_set1_ps(job.row_scales[row]);
#pragma GCC unroll 2
  for (int c = 0; c < 2; c++) {
    const __m512i exact = _mm512_sub_epi32(c ? high : low, offset);
    if (job.type == sqap::kInt32) {
      _mm512_mask_storeu_epi32(static_cast<int32_t *>(job.out) + row * job.out_stride + 16 * c,
                               first(job.columns - 16 * c), exact);
      continue;
    }
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_loadu_ps(job.panel_scales + 16 * c));
    y = _mm512_mul_ps(y, row_scale);
    if (job.panel_bias) y = _mm512_add_ps(y, _mm512_loadu_ps(job.panel_bias + 16 * c));
    store(job, row, c, y);
  }
}

// The same where groups of inputs have scales of their own: first each group's part...
template <int Bits>
inline void add_group(const TileJob &job, int64_t row, int64_t group, __m512i low, __m512i high,
                      float *total) {
  const __m512i zero = _mm512_set1_epi32(Bits == 8 ? 128 : 8);
  const __m512i offset =
      _mm512_mullo_epi32(zero, _mm512_set1_epi32(job.sums[row * job.groups + group]));
#pragma GCC unroll 2
  for (int c = 0; c < 2; c++) {
    const __m512 y = _mm512_cvtepi32_ps(_mm512_sub_epi32(c ? high : low, offset));
    const __m512 scale = _mm512_loadu_ps(job.panel_scales + group * kPanel + 16 * c);
    _mm512_store_ps(total + 16 * c, _mm512_fmadd_ps(y, scale, _mm512_load_ps(total + 16 * c)));
  }
}

// ...then the row's scale and the bias.
inline void finish_groups(const TileJob &job, int64_t row, const float *total) {
  for (int c = 0; c < 2; c++) {
    __m512 y = _mm512_mul_ps(_mm512_load_ps(total + 16 * c), _mm512_set1_ps(job.row_scales[row]));
    if (job.panel_bias) y = _mm512_add_ps(y, _mm512_loadu_ps(job.panel_bias + 16 * c));
    store(job, row, c, y);
  }
}

}  // namespace
