// Scale and minimum over channels of a convolution's output that lies in cache. No torch header.
#pragma once

#include <cstdint>

namespace convmin {

// conv [images, pixels, channels] (channels_last) or [images, channels, pixels]; values and indices [images, pixels].
// NaN wins, then the smaller value, then the lower channel. `indices` may be null. Covers pixels [begin, end) of the
// images * pixels. channels >= 1.
void channel_min(const float* conv, bool channels_last, std::int64_t pixels, std::int64_t channels, double scale,
                 std::int64_t begin, std::int64_t end, float* values, std::int32_t* indices);
void channel_min(const double* conv, bool channels_last, std::int64_t pixels, std::int64_t channels, double scale,
                 std::int64_t begin, std::int64_t end, double* values, std::int32_t* indices);

}  // namespace convmin
