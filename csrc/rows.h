// Rotation and quantization of rows of activations, for any vector type V of 16 floats.
//
// Included by one file an instruction set. Everything is in an unnamed namespace and calls nothing
// that other files might define too: the linker must not take one file's code for another's.
#pragma once
#include "kernels.h"

namespace {

using sqap::RowJob;
using sqap::Type;

constexpr int64_t kLanes = 16;

inline float bfloat16_to_float(uint16_t bits) {
  union {
    uint32_t u;
    float f;
  } value = {static_cast<uint32_t>(bits) << 16};
  return value.f;
}

inline uint16_t float_to_bfloat16(float x) {
  union {
    float f;
    uint32_t u;
  } value = {x};
  if (x != x) return 0x7fc0;
  return static_cast<uint16_t>((value.u + 0x7fff + ((value.u >> 16) & 1)) >> 16);
}

template <class V, int R>
inline void butterflies(V (&r)[R]) {
#pragma GCC unroll 4
  for (int half = 1; half < R; half *= 2)
#pragma GCC unroll 16
    for (int i = 0; i < R; i++)
      if (!(i & half)) {
        V a = r[i], b = r[i + half];
        r[i] = a + b;
        r[i + half] = a - b;
      }
}

// Transform of 16 R neighbours, everything in registers.
template <class V, int R>
inline void first_pass(float *x, int64_t vectors) {
  for (int64_t v = 0; v < vectors; v += R) {
    V r[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; i++) r[i] = V::load(x + (v + i) * kLanes).hadamard();
    butterflies(r);
#pragma GCC unroll 16
    for (int i = 0; i < R; i++) r[i].store(x + (v + i) * kLanes);
  }
}

template <class V, int R>
inline void next_pass(float *x, int64_t vectors, int64_t stride) {
  for (int64_t block = 0; block < vectors; block += R * stride)
    for (int64_t v = block; v < block + stride; v++) {
      V r[R];
#pragma GCC unroll 16
      for (int i = 0; i < R; i++) r[i] = V::load(x + (v + i * stride) * kLanes);
      butterflies(r);
#pragma GCC unroll 16
      for (int i = 0; i < R; i++) r[i].store(x + (v + i * stride) * kLanes);
    }
}

// Fast Walsh-Hadamard transform of n = 2^a numbers in Sylvester's order, not normalised.
template <class V>
inline void hadamard_row(float *x, int64_t n) {
  if (n < kLanes) {
    for (int64_t half = 1; half < n; half *= 2)
      for (int64_t i = 0; i < n; i++)
        if (!(i & half)) {
          float a = x[i], b = x[i + half];
          x[i] = a + b;
          x[i + half] = a - b;
        }
    return;
  }
  const int64_t vectors = n / kLanes;
  int64_t done = vectors < V::kRadix ? vectors : V::kRadix;
  switch (done) {
    case 1: first_pass<V, 1>(x, vectors); break;
    case 2: first_pass<V, 2>(x, vectors); break;
    case 4: first_pass<V, 4>(x, vectors); break;
    case 8: first_pass<V, 8>(x, vectors); break;
    default: first_pass<V, V::kRadix>(x, vectors);
  }
  while (done < vectors) {
    const int64_t left = vectors / done;
    const int64_t radix = left < V::kRadix ? left : V::kRadix;
    switch (radix) {
      case 2: next_pass<V, 2>(x, vectors, done); break;
      case 4: next_pass<V, 4>(x, vectors, done); break;
      case 8: next_pass<V, 8>(x, vectors, done); break;
      default: next_pass<V, V::kRadix>(x, vectors, done);
    }
    done *= radix;
  }
}

// out [odd][n] = hartley [odd][odd] x [odd][n]
template <class V>
inline void mix_rows(const float *hartley, const float *x, float *out, int64_t odd, int64_t n) {
  for (int64_t i = 0; i < odd; i++) {
    const float *h = hartley + i * odd;
    int64_t k = 0;
    for (; k + kLanes <= n; k += kLanes) {
      V sum = V::set(0);
      for (int64_t j = 0; j < odd; j++) sum = sum + V::load(x + j * n + k) * V::set(h[j]);
      sum.store(out + i * n + k);
    }
    for (; k < n; k++) {
      float sum = 0;
      for (int64_t j = 0; j < odd; j++) sum += x[j * n + k] * h[j];
      out[i * n + k] = sum;
    }
  }
}

// RMSNorm as transformers' Llama has it: rounded to the row's type before and after the weight.
template <class V>
inline void normalise(const RowJob &job, float *x, int64_t padded) {
  V sum = V::set(0);
  for (int64_t k = 0; k < padded; k += kLanes) sum = sum + V::load(x + k) * V::load(x + k);
  float lanes[kLanes], square = 0;
  sum.store(lanes);
  for (float lane : lanes) square += lane;
  const float factor =
      1 / __builtin_sqrtf(square / static_cast<float>(job.width) + job.norm.epsilon);
  const bool round = job.type == sqap::kBfloat16;
  int64_t k = 0;
  for (; k + kLanes <= job.width; k += kLanes) {
    V y = V::load(x + k) * V::set(factor);
    if (round) y = y.rounded_to_bfloat16();
    y = y * V::load(job.norm.weight + k);
    if (round) y = y.rounded_to_bfloat16();
    y.store(x + k);
  }
  for (; k < job.width; k++) {
    float y = x[k] * factor;
    if (round) y = bfloat16_to_float(float_to_bfloat16(y));
    y *= job.norm.weight[k];
    x[k] = round ? bfloat16_to_float(float_to_bfloat16(y)) : y;
  }
}

// Row as float, rotated but for the factor that is returned; *result is in the job's scratch.
template <class V>
inline float rotated_row(const RowJob &job, int64_t row, float **result) {
  const int64_t width = job.width, padded = sqap::round_up(width, kLanes);
  float *buffer = job.scratch;
  int64_t k = 0;
  if (job.type == sqap::kBfloat16) {
    const uint16_t *x = static_cast<const uint16_t *>(job.x) + row * job.stride;
    for (; k + kLanes <= width; k += kLanes) V::load_bfloat16(x + k).store(buffer + k);
    for (; k < width; k++) buffer[k] = bfloat16_to_float(x[k]);
  } else {
    const float *x = static_cast<const float *>(job.x) + row * job.stride;
    for (; k + kLanes <= width; k += kLanes) V::load(x + k).store(buffer + k);
    for (; k < width; k++) buffer[k] = x[k];
  }
  for (; k < padded; k++) buffer[k] = 0;
  if (job.norm.weight) normalise<V>(job, buffer, padded);
  *result = buffer;
  if (job.signs == nullptr) return 1;
  for (k = 0; k + kLanes <= width; k += kLanes)
    (V::load(buffer + k) * V::load_int8(job.signs + k)).store(buffer + k);
  for (; k < width; k++) buffer[k] *= job.signs[k];
  const int64_t power = width / job.odd;
  for (int64_t i = 0; i < job.odd; i++) hadamard_row<V>(buffer + i * power, power);
  if (job.odd > 1) {
    float *mixed = buffer + padded;
    mix_rows<V>(job.hartley, buffer, mixed, job.odd, power);
    for (k = width; k < padded; k++) mixed[k] = 0;
    *result = mixed;
  }
  return 1 / __builtin_sqrtf(static_cast<float>(power));
}

// Scale of a row; NaN if the row has a value that is not finite.
template <class V>
inline float row_scale(const float *x, int64_t padded, float factor, int32_t levels,
                       float *inverse) {
  constexpr float kTiny = 1e-12f;
  const float largest = V::largest_magnitude(x, padded);
  if (!(largest <= 3.4028234e38f)) {
    *inverse = 0;
    return __builtin_nanf("");
  }
  const float scaled = largest * factor < kTiny ? kTiny : largest * factor;
  const float scale = scaled / static_cast<float>(levels);
  *inverse = factor / scale;
  return scale;
}

template <class V>
void quantize_rows(const RowJob &job, int64_t begin, int64_t end) {
  const int64_t padded = sqap::round_up(job.width, kLanes), group = job.width / job.groups;
  for (int64_t row = begin; row < end; row++) {
    float *x, inverse;
    const float factor = rotated_row<V>(job, row, &x);
    job.scales[row] = row_scale<V>(x, padded, factor, job.levels, &inverse);
    int8_t *codes = job.codes + row * job.code_stride;
    int32_t *sums = job.sums + row * job.groups;
    sums[0] = V::quantize(x, padded, inverse, job.levels, codes);
    if (job.groups > 1)
      for (int64_t g = 0; g < job.groups; g++) {
        int32_t sum = 0;
        for (int64_t k = g * group; k < (g + 1) * group; k++) sum += codes[k];
        sums[g] = sum;
      }
  }
}

template <class V>
void round_rows(const RowJob &job, void *out, int64_t begin, int64_t end) {
  const int64_t padded = sqap::round_up(job.width, kLanes);
  for (int64_t row = begin; row < end; row++) {
    float *x, inverse;
    const float factor = rotated_row<V>(job, row, &x);
    const float scale = row_scale<V>(x, padded, factor, job.levels, &inverse);
    for (int64_t k = 0; k < padded; k += kLanes) {
      const V rounded = V::load(x + k).nearest(inverse, job.levels) * V::set(scale);
      const int64_t at = row * job.width + k, left = job.width - k;
      if (job.type == sqap::kBfloat16)
        rounded.store_bfloat16(static_cast<uint16_t *>(out) + at, left);
      else
        rounded.store_first(static_cast<float *>(out) + at, left);
    }
  }
}

template <class V>
void gate_multiply(const float *gate, const float *up, int64_t rows, float *out, int64_t stride,
                   sqap::Gate function) {
  for (int64_t i = 0; i < rows; i++, gate += sqap::kPanel, up += sqap::kPanel, out += stride)
    for (int64_t k = 0; k < sqap::kPanel; k += kLanes) {
      const V x = V::load(gate + k);
      // 0.5 (1 + tanh y) is the logistic function of 2 y.
      const V y = function == sqap::kSilu
                      ? x
                      : V::set(1.59576912f) * x * (V::set(1) + V::set(0.044715f) * x * x);
      (y.logistic() * x * V::load(up + k)).store(out + k);
    }
}

}  // namespace
