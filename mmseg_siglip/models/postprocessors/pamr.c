/* PAMR on a CPU, compiled by `compiled_pamr.py` and called from several threads at once.

   A row is `pitch` floats: `reach` (the largest dilation) of border, the W pixels, and border again.
   The border repeats the nearest pixel; above and below, the nearest row stands for what is outside.
   Neighbours are the ring of 8 at each dilation, row by row. Pixels are counted in whole `blocks`,
   of which the last may end in the border; affinities are (H, blocks, 8 dilations, BLOCK), by whose
   length this is compiled.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { TILE = 8 * BLOCK, LANES = 8, PARTS = BLOCK / LANES, TOGETHER = 4 };

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* Of row y's neighbours, in floats from the first pixel of an image. */
static void look_around(long *offsets, const long *dilations, long count, long y, long height,
                        long pitch) {
    for (long k = 0; k < count; k++)
        for (long at = 0; at < 9; at++) {
            const long d = dilations[k], there = y + d * (at / 3 - 1);
            const long row = there < 0 ? 0 : there < height ? there : height - 1;
            if (at != 4) *offsets++ = row * pitch + d * (at % 3 - 1);
        }
}

/* e to the power of x <= 0, to 2 units in the last place: 2 to the power of a whole number, times
   a polynomial for what remains (coefficients of Cephes' expf). */
static float exponential(float x) {
    const float rounding = 12582912, least = -87;
    const float safe = x < least ? least : x;
    const float shifted = safe * 1.44269504f + rounding, whole = shifted - rounding;
    const float rest = safe - whole * 0.693359375f + whole * 2.12194440e-4f;
    float power = 1.9875691500e-4f;
    power = power * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1;
    uint32_t bits;
    float two;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000;
    memcpy(&two, &bits, sizeof two);
    return power * two;
}

/* -|x_i - x_j| / (1e-8 + 0.1 std), mean over channels, of n pixels from `image` on, whose channels
   are `plane` floats apart: (8 dilations, TILE). */
static void distance(const float *image, float *found, const long *offsets, long count, long plane,
                     long centre, long n) {
    const long neighbours = 8 * count, samples = 9 * count;
    memset(found, 0, neighbours * TILE * sizeof(float));
    for (long c = 0; c < 3; c++, image += plane) {
        const float *here = image + centre;
        float mean[TILE], scale[TILE];
        for (long i = 0; i < n; i++) mean[i] = count * here[i];
        for (long p = 0; p < neighbours; p++) {
            const float *near = image + offsets[p];
            for (long i = 0; i < n; i++) mean[i] += near[i];
        }
        for (long i = 0; i < n; i++) {
            mean[i] /= samples;
            scale[i] = count * (here[i] - mean[i]) * (here[i] - mean[i]);
        }
        for (long p = 0; p < neighbours; p++) {
            const float *near = image + offsets[p];
            for (long i = 0; i < n; i++) scale[i] += (near[i] - mean[i]) * (near[i] - mean[i]);
        }
        for (long i = 0; i < n; i++)
            scale[i] = -1 / (1e-8f + 0.1f * sqrtf(scale[i] / (samples - 1))) / 3;
        for (long p = 0; p < neighbours; p++) {
            const float *near = image + offsets[p];
            float *of = found + p * TILE;
            for (long i = 0; i < n; i++) of[i] += fabsf(here[i] - near[i]) * scale[i];
        }
    }
}

/* The numerators of softmax over neighbours, in place, and 1 over their sum. */
static void softmax(float *values, float *scale, long neighbours) {
    float most[TILE];
    memcpy(most, values, sizeof most);
    for (long p = 1; p < neighbours; p++)
        for (long i = 0; i < TILE; i++) {
            const float value = values[p * TILE + i];
            most[i] = value > most[i] ? value : most[i];
        }
    for (long i = 0; i < TILE; i++) scale[i] = 0;
    for (long p = 0; p < neighbours; p++)
        for (long i = 0; i < TILE; i++) {
            float *of = values + p * TILE + i;
            *of = exponential(*of - most[i]);
            scale[i] += *of;
        }
    for (long i = 0; i < TILE; i++) scale[i] = 1 / scale[i];
}

/* Affinities in rows first to last (not included) of `image`, (3, H, pitch). */
void pamr_affinity(const float *image, float *affinity, const long *dilations, long count,
                   long height, long reach, long pitch, long blocks, long first, long last) {
    const long neighbours = 8 * count;
    long offsets[neighbours];
    float values[neighbours * TILE], scale[TILE];
    affinity += first * blocks * neighbours * BLOCK;
    for (long y = first; y < last; y++) {
        look_around(offsets, dilations, count, y, height, pitch);
        for (long x = 0; x < blocks * BLOCK; x += TILE) {
            const long left = blocks * BLOCK - x, n = left < TILE ? left : TILE;
            distance(image + reach + x, values, offsets, count, height * pitch, y * pitch, n);
            softmax(values, scale, neighbours);
            for (long b = 0; b < n; b += BLOCK)
                for (long p = 0; p < neighbours; p++, affinity += BLOCK)
                    for (long i = b; i < b + BLOCK; i++)
                        affinity[i - b] = values[p * TILE + i] * scale[i];
        }
    }
}

/* Weighted means of a block of pixels, of `channels` planes at once, which share the weights. */
static inline __attribute__((always_inline)) void weigh(const float *now, float *after,
                                                        const float *weights, const long *offsets,
                                                        long neighbours, long plane,
                                                        const int channels) {
    Lanes sum[TOGETHER][PARTS] = {0};
    for (long p = 0; p < neighbours; p++, weights += BLOCK)
        for (int c = 0; c < channels; c++)
            for (int i = 0; i < PARTS; i++)
                sum[c][i] += ((const Lanes *)weights)[i] *
                             ((const Lanes *)(now + offsets[p] + c * plane))[i];
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < PARTS; i++) ((Lanes *)(after + c * plane))[i] = sum[c][i];
}

static void replicate(float *row, long width, long reach, long pitch) {
    for (long x = 0; x < reach; x++) row[x] = row[reach];
    for (long x = reach + width; x < pitch; x++) row[x] = row[reach + width - 1];
}

/* `iterations` of PAMR over `logits` (channels, H, W), in place; `scratch` (2, channels, H, pitch).

   Each iteration runs `reach` rows behind the one before it, as far as a pixel sees, so that the rows
   of all of them stay in the cache and come from memory once. Two planes do: an iteration writes over
   a row of the last but one, whose readers have passed it.
 */
void pamr_refine(float *logits, float *scratch, const float *affinity, const long *dilations,
                 long count, long iterations, long channels, long height, long width, long reach,
                 long pitch, long blocks) {
    const long neighbours = 8 * count, plane = height * pitch, rows = channels * height;
    long offsets[neighbours];
    for (long row = 0; row < rows; row++) {
        memcpy(scratch + row * pitch + reach, logits + row * width, width * sizeof(float));
        replicate(scratch + row * pitch, width, reach, pitch);
    }
    for (long front = 0; front < height + reach * (iterations - 1); front++)
        for (long t = 0; t < iterations; t++) {
            const long y = front - reach * t;
            if (y < 0 || y >= height) continue;
            const float *now = scratch + t % 2 * rows * pitch;
            float *after = scratch + (t + 1) % 2 * rows * pitch + y * pitch;
            look_around(offsets, dilations, count, y, height, pitch);
            for (long c = 0; c < channels; c += TOGETHER, now += TOGETHER * plane)
                for (long b = 0; b < blocks; b++) {
                    const float *weights = affinity + (y * blocks + b) * neighbours * BLOCK;
                    const float *from = now + reach + b * BLOCK;
                    float *to = after + c * plane + reach + b * BLOCK;
                    switch (channels - c) {
                    case 1: weigh(from, to, weights, offsets, neighbours, plane, 1); break;
                    case 2: weigh(from, to, weights, offsets, neighbours, plane, 2); break;
                    case 3: weigh(from, to, weights, offsets, neighbours, plane, 3); break;
                    default: weigh(from, to, weights, offsets, neighbours, plane, TOGETHER);
                    }
                }
            for (long c = 0; c < channels; c++)
                replicate(after + c * plane, width, reach, pitch);
        }
    const float *refined = scratch + iterations % 2 * rows * pitch;
    for (long row = 0; row < rows; row++)
        memcpy(logits + row * width, refined + row * pitch + reach, width * sizeof(float));
}
