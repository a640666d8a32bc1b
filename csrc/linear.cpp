// The C interface: quantized linear layers, a gated feed-forward network, rounding of rows.
//
// Called from Python by ctypes with raw pointers; nothing here knows of torch. Thread-safe: work
// space belongs to the calling thread.
#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "kernels.h"
#include "memory.h"
#include "parallel.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using sqap::Buffer;
using sqap::Kernels;
using sqap::kPanel;
using sqap::Linear;
using sqap::Norm;
using sqap::round_up;
using sqap::RowJob;
using sqap::TileJob;
using sqap::Type;

constexpr Norm kNoNorm = {nullptr, 0};

// The first kernels that run on this machine and, if a name is given, have that name.
const Kernels *find(const char *name) {
  for (const Kernels *k :
       {sqap::amx_kernels(), sqap::avx512_kernels(), sqap::avx2_kernels(), sqap::generic_kernels()})
    if (k && (!name || !std::strcmp(k->name, name))) return k;
  return nullptr;
}

const Kernels *chosen = find(nullptr);

struct Activations {
  int8_t *codes;
  int64_t stride;
  float *scales;
  int32_t *sums;
};

// Rows whose distance is a power of two would share one set of the first-level cache.
int64_t code_stride(int64_t width) { return round_up(width, 64) + 64; }

float *row_scratch(int64_t width) {
  thread_local Buffer buffer;
  return reinterpret_cast<float *>(buffer.get(2 * round_up(width, 16) * sizeof(float)));
}

RowJob rows_of(const Linear &l, const void *x, int64_t stride, Type type, const Norm &norm,
               const Activations &a) {
  return {x,        stride,    type,
          norm,     l.inputs,  l.odd,
          l.signs,  l.hartley, l.activation_levels,
          l.groups, a.codes,   a.stride,
          a.scales, a.sums,    nullptr};
}

int64_t activation_bytes(const Linear &l, int64_t rows) {
  return rows * (code_stride(l.inputs) + l.groups * sizeof(int32_t) + sizeof(float));
}

// Codes, sums and scales of `rows` rows, one after another in memory that is aligned to 64 bytes.
Activations activations_at(char *memory, const Linear &l, int64_t rows) {
  Activations a;
  a.stride = code_stride(l.inputs);
  a.codes = reinterpret_cast<int8_t *>(memory);
  a.sums = reinterpret_cast<int32_t *>(memory + rows * a.stride);
  a.scales = reinterpret_cast<float *>(a.sums + rows * l.groups);
  return a;
}

void quantize(const Activations &a, const Linear &l, const void *x, int64_t stride, Type type,
              const Norm &norm, int64_t rows, int64_t threads) {
  const RowJob job = rows_of(l, x, stride, type, norm, a);
  sqap::parallel(threads, rows, 4, [&](int64_t begin, int64_t end) {
    RowJob own = job;
    own.scratch = row_scratch(l.inputs);
    chosen->quantize_rows(own, begin, end);
  });
}

Activations quantize(Buffer *buffer, const Linear &l, const void *x, Type type, const Norm &norm,
                     int64_t rows, int64_t threads) {
  const Activations a = activations_at(buffer->get(activation_bytes(l, rows)), l, rows);
  quantize(a, l, x, l.inputs, type, norm, rows, threads);
  return a;
}

int64_t panels(const Linear &l) { return (l.outputs + kPanel - 1) / kPanel; }

TileJob tile_of(const Linear &l, const Activations &a, int64_t panel, int64_t row) {
  const int64_t steps = (l.inputs / l.groups + 3) / 4;
  TileJob job;
  job.weights = l.weights + panel * l.groups * steps * l.weight_bits * 16;
  job.codes = a.codes + row * a.stride;
  job.code_stride = a.stride;
  job.steps = steps;
  job.groups = l.groups;
  job.sums = a.sums + row * l.groups;
  job.row_scales = a.scales + row;
  job.panel_scales = l.scales + panel * l.groups * kPanel;
  job.panel_bias = l.bias ? l.bias + panel * kPanel : nullptr;
  const int64_t left = l.outputs - panel * kPanel;
  job.columns = left < kPanel ? left : kPanel;
  return job;
}

// Calls visit(panel, row, rows) for tiles of nearly equal height.
template <class Visit>
void for_tiles(int64_t rows, int64_t stride, int64_t begin, int64_t end, const Visit &visit) {
  const int64_t fits = std::max<int64_t>(chosen->chunk_bytes / stride, 16);
  const int64_t most = std::min(chosen->max_rows, fits);
  const int64_t chunks = (rows - 1) / (fits / most * most) + 1;
  const int64_t chunk = round_up((rows + chunks - 1) / chunks, std::min(most, kPanel));
  for (int64_t start = 0; start < rows; start += chunk) {
    const int64_t here = rows - start < chunk ? rows - start : chunk;
    const int64_t tiles = (here + most - 1) / most;
    for (int64_t panel = begin; panel < end; panel++)
      for (int64_t t = 0; t < tiles; t++) {
        const int64_t first = here * t / tiles, last = here * (t + 1) / tiles;
        visit(panel, start + first, last - first);
      }
  }
}

void multiply(const Linear &l, const Activations &a, int64_t rows, void *out, Type type,
              int64_t threads) {
  const int64_t size = type == sqap::kBfloat16 ? 2 : 4;
  sqap::parallel(threads, panels(l), 1, [&](int64_t begin, int64_t end) {
    for_tiles(rows, a.stride, begin, end, [&](int64_t panel, int64_t row, int64_t height) {
      TileJob job = tile_of(l, a, panel, row);
      job.out = static_cast<char *>(out) + (row * l.outputs + panel * kPanel) * size;
      job.out_stride = l.outputs;
      job.type = type;
      chosen->tile(job, height, l.weight_bits);
    });
  });
}

}  // namespace

// Which instruction set runs: 'amx_int8', 'avx512_vnni', 'avx2' or 'generic'.
EXPORT const char *sqap_isa() { return chosen->name; }

// Choose an instruction set by its name, null for the best; 0 where this processor has it.
EXPORT int sqap_set_isa(const char *name) {
  const Kernels *found = find(name);
  if (!found) return 1;
  chosen = found;
  return 0;
}

// Portable codes (4 bits: uint8 [N][K / 2], even k in the low nibble, code + 8; 8 bits: int8
// [N][K]) to panels. `groups` divides K, and K / groups is a multiple of 4 where it is above 1.
EXPORT void sqap_pack(const void *codes, int64_t outputs, int64_t inputs, int64_t groups,
                      int32_t bits, uint8_t *packed) {
  const int64_t group = inputs / groups, steps = (group + 3) / 4;
  sqap::ask_for_large_pages(packed,
                            round_up(outputs, kPanel) / kPanel * groups * steps * bits * 16);
  const auto code = [&](int64_t n, int64_t k) -> int {
    if (n >= outputs) return 0;
    if (bits == 8) return static_cast<const int8_t *>(codes)[n * inputs + k];
    const uint8_t byte = static_cast<const uint8_t *>(codes)[n * (inputs / 2) + k / 2];
    return (k % 2 ? byte >> 4 : byte & 15) - 8;
  };
  for (int64_t panel = 0; panel < (outputs + kPanel - 1) / kPanel; panel++)
    for (int64_t g = 0; g < groups; g++)
      for (int64_t step = 0; step < steps; step++, packed += bits * 16)
        for (int64_t c = 0; c < kPanel; c++)
          for (int64_t t = 0; t < 4; t++) {
            const int64_t k = 4 * step + t;
            const int q = k < group ? code(panel * kPanel + c, g * group + k) : 0;
            if (bits == 8)
              packed[4 * c + t] = static_cast<uint8_t>(q + 128);
            else if (c < 16)
              packed[4 * c + t] = static_cast<uint8_t>(q + 8);
            else
              packed[4 * (c - 16) + t] |= static_cast<uint8_t>((q + 8) << 4);
          }
}

// y [rows][outputs] of x [rows][inputs], both of `type`.
EXPORT void sqap_linear(const Linear *l, const void *x, void *y, int64_t rows, Type type,
                        int64_t threads) {
  thread_local Buffer buffer;
  multiply(*l, quantize(&buffer, *l, x, type, kNoNorm, rows, threads), rows, y, type, threads);
}

// Bytes that `rows` quantized rows of a layer's inputs take.
EXPORT int64_t sqap_activation_bytes(const Linear *l, int64_t rows) {
  return activation_bytes(*l, rows);
}

// x [rows][inputs], normed where norm_weight is not null, into memory of sqap_activation_bytes.
EXPORT void sqap_quantize_into(const Linear *l, const void *x, const float *norm_weight,
                               float epsilon, char *memory, int64_t rows, Type type,
                               int64_t threads) {
  quantize(activations_at(memory, *l, rows), *l, x, l->inputs, type, {norm_weight, epsilon}, rows,
           threads);
}

// y of rows that a layer with the same inputs and rotation has quantized.
EXPORT void sqap_multiply(const Linear *l, char *memory, void *y, int64_t rows, Type type,
                          int64_t threads) {
  multiply(*l, activations_at(memory, *l, rows), rows, y, type, threads);
}

// y = down(function(gate(x)) * up(x)); what is between the layers stays float and in this thread's
// memory. Gate and up share inputs and rotation. x is normed where norm_weight is not null.
EXPORT void sqap_gated_mlp(const Linear *gate, const Linear *up, const Linear *down,
                           const float *norm_weight, float epsilon, const void *x, void *y,
                           int64_t rows, Type type, sqap::Gate function, int64_t threads) {
  thread_local Buffer input_buffer, hidden_buffer, output_buffer;
  const Activations a =
      quantize(&input_buffer, *gate, x, type, {norm_weight, epsilon}, rows, threads);
  // A line more than whole panels: at a power of two all rows would share a set of the cache.
  const int64_t stride = panels(*gate) * kPanel + 16;
  float *hidden = reinterpret_cast<float *>(hidden_buffer.get(rows * stride * sizeof(float)));
  sqap::parallel(threads, panels(*gate), 1, [&](int64_t begin, int64_t end) {
    thread_local Buffer tiles;
    const int64_t size = chosen->max_rows * kPanel;
    float *one = reinterpret_cast<float *>(tiles.get(2 * size * sizeof(float))),
          *other = one + size;
    std::memset(one, 0, 2 * size * sizeof(float));  // columns that do not exist are never written
    for_tiles(rows, a.stride, begin, end, [&](int64_t panel, int64_t row, int64_t height) {
      const auto part = [&](const Linear &l, float *out) {
        TileJob job = tile_of(l, a, panel, row);
        job.out = out;
        job.out_stride = kPanel;
        job.type = sqap::kFloat32;
        chosen->tile(job, height, l.weight_bits);
      };
      part(*gate, one);
      part(*up, other);
      chosen->gate_multiply(one, other, height, hidden + row * stride + panel * kPanel, stride,
                            function);
    });
  });
  const Activations h =
      activations_at(output_buffer.get(activation_bytes(*down, rows)), *down, rows);
  quantize(h, *down, hidden, stride, sqap::kFloat32, kNoNorm, rows, threads);
  multiply(*down, h, rows, y, type, threads);
}

// x [rows][width] of `type`, each row rotated (signs not null) and rounded: code * scale, into out.
EXPORT void sqap_round_rows(const void *x, void *out, int64_t rows, int64_t width, Type type,
                            const int8_t *signs, int64_t odd, const float *hartley, int32_t levels,
                            int64_t threads) {
  sqap::parallel(threads, rows, 16, [&](int64_t begin, int64_t end) {
    const RowJob job = {x,       width, type,    kNoNorm, width,
                        odd,     signs, hartley, levels,  1,
                        nullptr, 0,     nullptr, nullptr, row_scratch(width)};
    chosen->round_rows(job, out, begin, end);
  });
}

// What the layer makes of x: codes int8 [rows][inputs] and scales [rows].
EXPORT void sqap_quantize(const Linear *l, const void *x, int64_t rows, Type type, int8_t *codes,
                          float *scales) {
  thread_local Buffer buffer;
  const Activations a = quantize(&buffer, *l, x, type, kNoNorm, rows, 1);
  for (int64_t i = 0; i < rows; i++)
    std::memcpy(codes + i * l->inputs, a.codes + i * a.stride, l->inputs);
  std::memcpy(scales, a.scales, rows * sizeof(float));
}

// Exact sums int32 [rows][outputs] of the codes that the layer makes of x; layers of one group.
EXPORT void sqap_accumulate(const Linear *l, const void *x, int64_t rows, Type type, int32_t *out) {
  thread_local Buffer buffer;
  multiply(*l, quantize(&buffer, *l, x, type, kNoNorm, rows, 1), rows, out, sqap::kInt32, 1);
}

// Runs the multiplying instruction alone; returns multiply-adds done in `rounds` rounds.
EXPORT double sqap_peak(int64_t rounds) { return chosen->peak(rounds); }
