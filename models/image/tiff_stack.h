// What the programs that write TIFF stacks say of them in the ImageDescription: how many planes the
// file holds, and which of them are channels of one picture. Without it a stack of which only the
// first plane has a directory, as ImageJ and tifffile write it, looks like a single image.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera {

// How tifffile's text of a series of pages begins, which later directories may have too.
inline constexpr std::string_view kSeriesText = "{\"shape\"";

struct StackDescription {
  std::string writer;             // "ImageJ", "OME-XML" or "tifffile"
  std::string numbers;            // as the description has them: "2 channels, 5 slices, 1 frame"
  std::int64_t planes = 1;        // grey or RGB pictures
  std::int64_t channels = 1;      // of each picture that lie in planes of their own
  std::int64_t channel_step = 1;  // planes from one of these to the next; 0: not known
  bool whole_file = true;      // false: of this directory and those behind it without such a text
  bool one_directory = false;  // the planes may all follow the first one's pixels
  bool other_files = false;    // some planes lie elsewhere; `planes` counts those of all files
};

// What one directory holds, against which a text is read: an RGB picture is no three channels.
struct PlaneSize {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t samples = 1;  // per pixel
};

// Nothing for a text of any other kind, or one that says nothing of planes. The text is hostile;
// Error says what in it contradicts itself.
std::optional<StackDescription> describe_stack(std::string_view text, const PlaneSize& size);

}  // namespace tessera
