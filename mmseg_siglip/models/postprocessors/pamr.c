/* PAMR on a CPU, compiled by `compiled_pamr.py` and called from several threads at once.

   An image is H rows of W pixels. Rows are `pitch` floats apart, an odd number of the cache's
   lines, so that few of one pixel's neighbours share a set of it. Borders are replicated: above and below by
   taking the nearest row, left and right by `reach` floats beside each row, the largest dilation.
   Neighbours are the ring of 8 at each dilation, row by row; affinities are (H, 8 dilations, pitch).
 */

#include <math.h>
#include <string.h>

enum { TILE = 128 };

static long nearest(long y, long height) { return y < 0 ? 0 : y < height ? y : height - 1; }

static long tile_of(long x, long width) { return width - x < TILE ? width - x : TILE; }

/* The logits of `reach` floats beside each row. */
static void replicate(float *row, long width, long reach) {
    for (long x = 0; x < reach; x++) {
        row[x] = row[reach];
        row[reach + width + x] = row[reach + width - 1];
    }
}

/* -|x_i - x_j| / (1e-8 + 0.1 std), mean over channels, of rows first to last (not included):
   `image` is (3, H, pitch) with its borders, `distance` (H, 8 dilations, out_pitch). */
void pamr_distance(const float *image, float *distance, const long *dilations, long count,
                   long height, long width, long reach, long pitch, long out_pitch, long first,
                   long last) {
    const long neighbours = 8 * count, samples = 9 * count;
    for (long y = first; y < last; y++)
        for (long x = 0; x < width; x += TILE) {
            const long n = tile_of(x, width);
            float *out = distance + y * neighbours * out_pitch + x;
            for (long p = 0; p < neighbours; p++) memset(out + p * out_pitch, 0, n * sizeof(float));
            for (long c = 0; c < 3; c++) {
                const float *plane = image + c * height * pitch + reach + x;
                const float *centre = plane + y * pitch;
                float mean[TILE], scale[TILE];
                for (long i = 0; i < n; i++) mean[i] = scale[i] = 0;
                for (long s = 0; s < samples; s++) {
                    const long d = dilations[s / 9], at = s % 9;
                    const float *near = plane + nearest(y + d * (at / 3 - 1), height) * pitch;
                    near += d * (at % 3 - 1);
                    for (long i = 0; i < n; i++) mean[i] += near[i];
                }
                for (long i = 0; i < n; i++) mean[i] /= samples;
                for (long s = 0; s < samples; s++) {
                    const long d = dilations[s / 9], at = s % 9;
                    const float *near = plane + nearest(y + d * (at / 3 - 1), height) * pitch;
                    near += d * (at % 3 - 1);
                    for (long i = 0; i < n; i++) {
                        const float off = near[i] - mean[i];
                        scale[i] += off * off;
                    }
                }
                for (long i = 0; i < n; i++)
                    scale[i] = -1 / (1e-8f + 0.1f * sqrtf(scale[i] / (samples - 1))) / 3;
                for (long s = 0, p = 0; s < samples; s++) {
                    const long d = dilations[s / 9], at = s % 9;
                    if (at == 4) continue;
                    const float *near = plane + nearest(y + d * (at / 3 - 1), height) * pitch;
                    near += d * (at % 3 - 1);
                    float *of = out + p++ * out_pitch;
                    for (long i = 0; i < n; i++) of[i] += fabsf(centre[i] - near[i]) * scale[i];
                }
            }
        }
}

static void iterate(const float *now, float *after, const float *affinity, const long *dilations,
                    long count, long channels, long height, long width, long reach, long pitch,
                    long in_pitch) {
    for (long y = 0; y < height; y++)
        for (long x = 0; x < width; x += TILE)
            for (long c = 0; c < channels; c++) {
                const long n = tile_of(x, width);
                const float *plane = now + c * height * pitch + reach + x;
                float sum[TILE] = {0};
                for (long k = 0; k < count; k++) {
                    const long d = dilations[k], q = in_pitch;
                    const float *up = plane + nearest(y - d, height) * pitch;
                    const float *same = plane + y * pitch;
                    const float *down = plane + nearest(y + d, height) * pitch;
                    const float *w = affinity + (y * count + k) * 8 * q + x;
                    for (long i = 0; i < n; i++)
                        sum[i] += w[i] * up[i - d] + w[i + q] * up[i] + w[i + 2 * q] * up[i + d] +
                                  w[i + 3 * q] * same[i - d] + w[i + 4 * q] * same[i + d] +
                                  w[i + 5 * q] * down[i - d] + w[i + 6 * q] * down[i] +
                                  w[i + 7 * q] * down[i + d];
                }
                memcpy(after + (c * height + y) * pitch + reach + x, sum, n * sizeof(float));
            }
    for (long row = 0; row < channels * height; row++)
        replicate(after + row * pitch, width, reach);
}

/* `iterations` of PAMR over `logits` (channels, H, W), in place; `scratch` (2, channels, H, pitch).
 */
void pamr_refine(float *logits, float *scratch, const float *affinity, const long *dilations,
                 long count, long iterations, long channels, long height, long width, long reach,
                 long pitch, long in_pitch) {
    const long rows = channels * height;
    float *now = scratch, *after = scratch + rows * pitch;
    for (long row = 0; row < rows; row++) {
        memcpy(now + row * pitch + reach, logits + row * width, width * sizeof(float));
        replicate(now + row * pitch, width, reach);
    }
    for (long i = 0; i < iterations; i++) {
        iterate(now, after, affinity, dilations, count, channels, height, width, reach, pitch,
                in_pitch);
        float *swapped = now;
        now = after;
        after = swapped;
    }
    for (long row = 0; row < rows; row++)
        memcpy(logits + row * width, now + row * pitch + reach, width * sizeof(float));
}
