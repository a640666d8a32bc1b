// What the instruction sets implement, and the layouts that they share.
//
// A linear layer is y = scale_x * scale_w * (codes_x . codes_w) + bias with int8 codes of the
// activations, one scale a row, and codes of the weights in 4 or 8 bits, one scale an output or
// one for each group of inputs.
//
// Packed weights: panels of 32 outputs; in a panel, for every 4 inputs, one row of bytes
//   4 bits: 64 bytes, byte 4 c + t has output c (c < 16), input t in the low nibble and output
//           16 + c in the high nibble, as code + 8
//   8 bits: 128 bytes, byte 4 c + t has output c, input t, as code + 128
// so that a vector of dwords multiplies 16 outputs with 4 broadcast activations (vpdpbusd:
// unsigned weights, signed activations). The offset is taken off again with the row's sum of
// activation codes: sum (w + z) a = sum w a + z sum a. No product wraps: 255 * 127 * K < 2^31
// for K up to 66 000.
#pragma once
#include <cstdint>

namespace sqap {

constexpr int64_t kPanel = 32;

// Codes of this many bytes stay in a core's second-level cache while all weights pass by.
constexpr int64_t kChunkBytes = 384 * 1024;

enum Type : int32_t { kFloat32 = 0, kBfloat16 = 1, kInt32 = 2 };
enum Gate : int32_t { kSilu = 0, kGeluTanh = 1 };

// One linear layer. All memory belongs to the caller. Field order is mirrored by Python's ctypes.
struct Linear {
  const uint8_t *weights;  // packed
  const float *scales;     // [panels][groups][32]
  const float *bias;       // [panels * 32] or null
  const int8_t *signs;     // [inputs] or null: not rotated
  const float *hartley;    // [odd][odd] or null where odd is 1
  int64_t inputs, outputs;
  int64_t odd;  // inputs = odd * power of two
  int64_t groups;
  int32_t weight_bits;        // 4 or 8, as stored
  int32_t activation_levels;  // 7 for 4 bits, 127 for 8
};

// What an RMSNorm needs (arXiv 1910.07467): x / sqrt(mean x^2 + epsilon) * weight.
struct Norm {
  const float *weight;  // [width] or null: no norm
  float epsilon;
};

// Quantization of rows of activations, after a norm and a rotation.
struct RowJob {
  const void *x;
  int64_t stride;  // of x, in elements
  Type type;
  Norm norm;
  int64_t width, odd;
  const int8_t *signs;
  const float *hartley;
  int32_t levels;
  int64_t groups;
  int8_t *codes;  // [rows][code_stride], written up to round_up(width, 16), 0 beyond width
  int64_t code_stride;
  float *scales;   // [rows]
  int32_t *sums;   // [rows][groups]
  float *scratch;  // 2 * round_up(width, 16) floats
};

// One tile of up to max_rows rows and one panel of outputs.
struct TileJob {
  const uint8_t *weights;
  const int8_t *codes;
  int64_t code_stride;
  int64_t steps;  // of 4 inputs, in each group
  int64_t groups;
  const int32_t *sums;
  const float *row_scales;
  const float *panel_scales;  // [groups][32]
  const float *panel_bias;    // [32] or null
  void *out;
  int64_t out_stride;
  Type type;
  int64_t columns;  // of the panel that exist
};

struct Kernels {
  const char *name;
  int64_t max_rows;     // of a tile
  int64_t chunk_bytes;  // of codes that are multiplied with all weights before the next
  // Rows begin..end of x to codes, scales and sums.
  void (*quantize_rows)(const RowJob &, int64_t begin, int64_t end);
  // Rows of x, rotated and rounded to codes, as floating-point numbers in place of x.
  void (*round_rows)(const RowJob &, void *out, int64_t begin, int64_t end);
  void (*tile)(const TileJob &, int64_t rows, int32_t weight_bits);
  // out := function(gate) * up, one panel's rows; `stride` is between rows of out.
  void (*gate_multiply)(const float *gate, const float *up, int64_t rows, float *out,
                        int64_t stride, Gate function);
  // Integer multiply-adds a second at most, nothing but the multiplying instruction: operations of
  // `rounds` rounds are returned, for the caller to time.
  double (*peak)(int64_t rounds);
};

// Null where this machine's compiler has no such target, or its processor or kernel lacks it.
const Kernels *amx_kernels();
const Kernels *avx512_kernels();
const Kernels *avx2_kernels();
const Kernels *generic_kernels();

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace sqap
