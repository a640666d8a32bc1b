// Plain C++ for every other processor; compilers vectorise its loops for the target.
#include "rows.h"

namespace {

using sqap::kPanel;
using sqap::TileJob;

struct V {
  float v[16];
  static constexpr int kRadix = 4;

  static V set(float x) {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = x;
    return r;
  }
  static V load(const float *p) {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = p[i];
    return r;
  }
  static V load_bfloat16(const uint16_t *p) {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = bfloat16_to_float(p[i]);
    return r;
  }
  static V load_int8(const int8_t *p) {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = p[i];
    return r;
  }
  void store(float *p) const { store_first(p, 16); }
  void store_first(float *p, int64_t n) const {
    for (int i = 0; i < 16 && i < n; i++) p[i] = v[i];
  }
  void store_bfloat16(uint16_t *p, int64_t n) const {
    for (int i = 0; i < 16 && i < n; i++) p[i] = float_to_bfloat16(v[i]);
  }
  V rounded_to_bfloat16() const {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = bfloat16_to_float(float_to_bfloat16(v[i]));
    return r;
  }
  V operator+(const V &o) const {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = v[i] + o.v[i];
    return r;
  }
  V operator-(const V &o) const {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = v[i] - o.v[i];
    return r;
  }
  V operator*(const V &o) const {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = v[i] * o.v[i];
    return r;
  }
  V hadamard() const {
    V r = *this;
    for (int half = 1; half < 16; half *= 2) {
      V next;
      for (int i = 0; i < 16; i++) {
        const float partner = r.v[i ^ half];
        next.v[i] = i & half ? partner - r.v[i] : partner + r.v[i];
      }
      r = next;
    }
    return r;
  }
  // A NaN in x makes the result a NaN.
  static float largest_magnitude(const float *x, int64_t n) {
    float largest = 0, nan = 0;
    for (int64_t k = 0; k < n; k++) {
      const float magnitude = __builtin_fabsf(x[k]);
      largest = magnitude > largest ? magnitude : largest;
      nan += x[k] - x[k];
    }
    return nan == 0 ? largest : __builtin_nanf("");
  }
  static float nearest_code(float x, float inverse, float top) {
    const float q = __builtin_rintf(x * inverse);
    return q > top ? top : q < -top ? -top : q;
  }
  static int32_t quantize(const float *x, int64_t n, float inverse, int32_t levels, int8_t *codes) {
    int32_t sum = 0;
    for (int64_t k = 0; k < n; k++) {
      const float q = nearest_code(x[k], inverse, static_cast<float>(levels));
      // A NaN has no integer code. The scale of its row is NaN and makes the outputs NaN.
      const int32_t code = q == q ? static_cast<int32_t>(q) : 0;
      codes[k] = static_cast<int8_t>(code);
      sum += code;
    }
    return sum;
  }
  V nearest(float inverse, int32_t levels) const {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = nearest_code(v[i], inverse, static_cast<float>(levels));
    return r;
  }
  V logistic() const {
    V r;
    for (int i = 0; i < 16; i++) r.v[i] = 1 / (1 + __builtin_expf(-v[i]));
    return r;
  }
};

inline void multiply(const TileJob &job, int64_t group, int64_t row, int32_t bits, int32_t *sum) {
  const int8_t *a = job.codes + row * job.code_stride + group * job.steps * 4;
  const uint8_t *w = job.weights + group * job.steps * bits * 16;
  for (int c = 0; c < kPanel; c++) sum[c] = 0;
  for (int64_t k = 0; k < job.steps; k++, a += 4, w += bits * 16) {
    if (bits == 4)
      for (int c = 0; c < 16; c++)
        for (int t = 0; t < 4; t++) {
          sum[c] += (w[4 * c + t] & 15) * a[t];
          sum[16 + c] += (w[4 * c + t] >> 4) * a[t];
        }
    else
      for (int c = 0; c < kPanel; c++)
        for (int t = 0; t < 4; t++) sum[c] += w[4 * c + t] * a[t];
  }
  const int32_t offset = (bits == 4 ? 8 : 128) * job.sums[row * job.groups + group];
  for (int c = 0; c < kPanel; c++) sum[c] -= offset;
}

void tile(const TileJob &job, int64_t rows, int32_t bits) {
  int32_t sum[kPanel];
  for (int64_t row = 0; row < rows; row++) {
    const int64_t at = row * job.out_stride;
    float total[kPanel] = {};
    for (int64_t g = 0; g < job.groups; g++) {
      multiply(job, g, row, bits, sum);
      for (int c = 0; c < kPanel; c++)
        total[c] += static_cast<float>(sum[c]) * job.panel_scales[g * kPanel + c];
    }
    for (int64_t c = 0; c < job.columns; c++) {
      float y = total[c] * job.row_scales[row];
      if (job.panel_bias) y += job.panel_bias[c];
      switch (job.type) {
        case sqap::kInt32: static_cast<int32_t *>(job.out)[at + c] = sum[c]; break;
        case sqap::kBfloat16:
          static_cast<uint16_t *>(job.out)[at + c] = float_to_bfloat16(y);
          break;
        case sqap::kFloat32: static_cast<float *>(job.out)[at + c] = y; break;
      }
    }
  }
}

double peak(int64_t rounds) {
  int8_t a[64], b[64];
  for (int i = 0; i < 64; i++) a[i] = b[i] = 3;
  int32_t sum[16] = {};
  for (int64_t r = 0; r < rounds; r++) {
    for (int c = 0; c < 16; c++)
      for (int t = 0; t < 4; t++) sum[c] += a[4 * c + t] * b[4 * c + t];
    asm volatile("" : : "r"(a), "r"(sum) : "memory");
  }
  return static_cast<double>(rounds) * 64;
}

}  // namespace

const sqap::Kernels *sqap::generic_kernels() {
  static const Kernels kernels = {"generic",     8,    kChunkBytes,      quantize_rows<V>,
                                  round_rows<V>, tile, gate_multiply<V>, peak};
  return &kernels;
}
