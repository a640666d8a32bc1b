// AMX with 8-bit integers (Sapphire Rapids and later).
//
// One tile product multiplies 16 rows of 64 codes with 64 inputs of 16 outputs. A row of a panel's
// bytes is a row of a tile of weights as it is, once it is unpacked. Sums of 32 rows and a panel
// take four of the eight tiles, two tiles of codes and two of weights the others.
#if defined(__AMX_INT8__)  // by this file's own compile options: see CMakeLists.txt
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "avx512.h"

namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileSteps = 16;  // of 4 inputs
constexpr int64_t kTileInputs = 4 * kTileSteps;
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kBlockRows = 2 * kTileRows;
constexpr int64_t kMaxRows = 10 * kBlockRows;
constexpr int64_t kChunkOfCodes = 1600 * 1024;  // of a second-level cache of 2 MB
constexpr int64_t kAhead = 3;  // tile steps from unpacking to use: what is written has arrived
constexpr int64_t kRing = 8;   // of unpacked tile steps, where each is used once

// What LDTILECFG loads.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 to 3: sums, 4 and 5: codes of the upper and lower rows, 6 and 7: weights.
void load_config(int64_t upper, int64_t lower) {
  TileConfig config;
  const int64_t rows[8] = {upper, upper, lower, lower, upper, lower, kTileSteps, kTileSteps};
  for (int i = 0; i < 8; i++) {
    config.row_bytes[i] = rows[i] ? 64 : 0;
    config.rows[i] = static_cast<uint8_t>(rows[i]);
  }
  asm volatile("" : : "r"(&config) : "memory");  // GCC's intrinsic names its first bytes only
  _tile_loadconfig(&config);
}

// A tile step's two tiles of unpacked weights.
struct Step {
  alignas(64) uint8_t low[kTileBytes], high[kTileBytes];
};

// Where the inputs end, weights are 0, and so are products with whatever follows the codes.
template <int Bits>
inline void unpack(const TileJob &job, int64_t at, Step *to) {
  const uint8_t *w = job.weights + at * kTileSteps * Bits * 16;
  const int64_t left = job.groups * job.steps - at * kTileSteps;
  const auto row = [&](int64_t k) __attribute__((always_inline)) {
    const Pair pair = weights_at<Bits>(w + k * Bits * 16);
    _mm512_store_si512(to->low + k * 64, pair.low);
    _mm512_store_si512(to->high + k * 64, pair.high);
  };
  if (left >= kTileSteps) {
#pragma GCC unroll 16
    for (int64_t k = 0; k < kTileSteps; k++) row(k);
    return;
  }
  __builtin_memset(to, 0, sizeof *to);
  for (int64_t k = 0; k < left; k++) row(k);
}

// Sums of one block of rows.
struct Sums {
  alignas(64) int32_t rows[kBlockRows][kPanel];

  template <bool Lower>
  void save() {
    _tile_stored(0, rows[0], sizeof rows[0]);
    _tile_stored(1, rows[0] + 16, sizeof rows[0]);
    if (Lower) {
      _tile_stored(2, rows[kTileRows], sizeof rows[0]);
      _tile_stored(3, rows[kTileRows] + 16, sizeof rows[0]);
    }
  }
};

template <bool Lower>
inline void clear() {
  _tile_zero(0);
  _tile_zero(1);
  if (Lower) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

template <bool Lower>
inline void multiply(const int8_t *codes, int64_t stride, const Step &weights) {
  _tile_loadd(6, weights.low, 64);
  _tile_loadd(4, codes, stride);
  _tile_dpbsud(0, 4, 6);
  _tile_loadd(7, weights.high, 64);
  _tile_dpbsud(1, 4, 7);
  if (Lower) {
    _tile_loadd(5, codes + kTileRows * stride, stride);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
}

Step *step_memory(int64_t steps) {
  thread_local std::vector<Step> memory;
  if (static_cast<int64_t>(memory.size()) < steps) memory.resize(steps);
  return memory.data();
}

// The first block of rows unpacks the weights for all. Blocks are of one height: the last may
// begin with rows that the one before it ends with. A block's outputs are made of its sums while
// the next one is multiplied.
template <int Bits, bool Lower>
void panel(const TileJob &job, int64_t rows, int64_t blocks, int64_t height) {
  const int64_t steps = (job.steps + kTileSteps - 1) / kTileSteps;
  const int64_t ring = blocks == 1 ? kRing - 1 : -1;
  const int64_t lines = 4 * Bits / blocks;
  Step *weights = step_memory(blocks == 1 ? kRing : steps);
  Sums sums[2];
  for (int64_t k = 0; k < kAhead && k < steps; k++) unpack<Bits>(job, k, weights + k);
  load_config(Lower ? kTileRows : height, Lower ? height - kTileRows : 0);
  int64_t waiting = 0, row = 0;
  const auto finish_until = [&](const Sums &of, int64_t first, int64_t end) {
    for (; waiting < end; waiting++)
      finish<Bits>(job, first + waiting, _mm512_load_si512(of.rows[waiting]),
                   _mm512_load_si512(of.rows[waiting] + 16));
  };
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t before = row;
    const Sums &previous = sums[(b + 1) % 2];
    row = b + 1 < blocks ? b * height : rows - height;
    waiting = 0;
    clear<Lower>();
    for (int64_t k = 0; k < steps; k++) {
      if (b == 0 && k + kAhead < steps)
        unpack<Bits>(job, k + kAhead, weights + ((k + kAhead) & ring));
      // The next panel's weights are on their way while this one's are multiplied.
      const uint8_t *next = job.weights + ((steps + k) * blocks + b) * lines * 64;
      for (int64_t i = 0; i < lines; i++)
        _mm_prefetch(reinterpret_cast<const char *>(next + i * 64), _MM_HINT_T1);
      asm volatile("" : : : "memory");  // weights are written before a tile loads them
      multiply<Lower>(job.codes + row * job.code_stride + k * kTileInputs, job.code_stride,
                      weights[k & ring]);
      if (b > 0) finish_until(previous, before, height * (k + 1) / steps);
    }
    sums[b % 2].template save<Lower>();
  }
  waiting = 0;
  finish_until(sums[(blocks + 1) % 2], row, height);
  _tile_release();  // others that use tiles load a configuration of their own
}

// The same where groups of inputs, whole tile steps each, have scales of their own.
template <int Bits, bool Lower>
void grouped_panel(const TileJob &job, int64_t rows, int64_t blocks, int64_t height) {
  const int64_t group_steps = job.steps / kTileSteps, steps = job.groups * group_steps;
  Step *weights = step_memory(steps);
  Sums sums;
  for (int64_t k = 0; k < steps; k++) unpack<Bits>(job, k, weights + k);
  load_config(Lower ? kTileRows : height, Lower ? height - kTileRows : 0);
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t row = b + 1 < blocks ? b * height : rows - height;
    alignas(64) float totals[kBlockRows][kPanel] = {};
    for (int64_t k = 0, g = 0; g < job.groups; g++) {
      clear<Lower>();
      for (const int64_t end = k + group_steps; k < end; k++)
        multiply<Lower>(job.codes + row * job.code_stride + k * kTileInputs, job.code_stride,
                        weights[k]);
      sums.save<Lower>();
      for (int64_t i = 0; i < height; i++)
        add_group<Bits>(job, row + i, g, _mm512_load_si512(sums.rows[i]),
                        _mm512_load_si512(sums.rows[i] + 16), totals[i]);
    }
    for (int64_t i = 0; i < height; i++) finish_groups(job, row + i, totals[i]);
  }
  _tile_release();
}

// Rows from `row` on.
TileJob below(TileJob job, int64_t row) {
  job.codes += row * job.code_stride;
  job.sums += row * job.groups;
  job.row_scales += row;
  job.out =
      static_cast<char *>(job.out) + row * job.out_stride * (job.type == sqap::kBfloat16 ? 2 : 4);
  return job;
}

void by_vectors(const TileJob &job, int64_t rows, int32_t bits) {
  static const sqap::Kernels *const vectors = sqap::avx512_kernels();
  const int64_t tiles = (rows + vectors->max_rows - 1) / vectors->max_rows;
  for (int64_t t = 0; t < tiles; t++) {
    const int64_t begin = rows * t / tiles, end = rows * (t + 1) / tiles;
    vectors->tile(below(job, begin), end - begin, bits);
  }
}

template <int Bits, bool Lower>
void panel_of(const TileJob &job, int64_t rows, int64_t blocks, int64_t height) {
  job.groups == 1 ? panel<Bits, Lower>(job, rows, blocks, height)
                  : grouped_panel<Bits, Lower>(job, rows, blocks, height);
}

void tile(const TileJob &job, int64_t rows, int32_t bits) {
  const int64_t few = bits == 4 ? 8 : 10;  // rows, up to which vectors are faster
  if (rows <= few || (job.groups > 1 && job.steps % kTileSteps)) {
    by_vectors(job, rows, bits);
    return;
  }
  const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows,
                height = (rows + blocks - 1) / blocks;
  if (height > kTileRows)
    bits == 4 ? panel_of<4, true>(job, rows, blocks, height)
              : panel_of<8, true>(job, rows, blocks, height);
  else
    bits == 4 ? panel_of<4, false>(job, rows, blocks, height)
              : panel_of<8, false>(job, rows, blocks, height);
}

double peak(int64_t rounds) {
  load_config(kTileRows, kTileRows);
  for (int64_t i = 0; i < rounds; i++) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_release();
  return static_cast<double>(rounds) * 4 * kTileRows * 16 * kTileInputs;
}

// Linux lends a process the tiles once it has asked for them.
bool permitted() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25;
  return (d & kTiles) && (d & kInt8) && !syscall(SYS_arch_prctl, kRequestPermission, kTileData);
}

}  // namespace

const sqap::Kernels *sqap::amx_kernels() {
  static const Kernels kernels = {"amx_int8",    kMaxRows, kChunkOfCodes,    quantize_rows<V>,
                                  round_rows<V>, tile,     gate_multiply<V>, peak};
  static const bool here = avx512_kernels() && permitted();
  return here ? &kernels : nullptr;
}
#else
#include "kernels.h"
const sqap::Kernels *sqap::amx_kernels() { return nullptr; }
#endif
