#include "models/image/tiff.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "kernels/error.h"
#include "models/image/tiff_page.h"
#include "models/image/tiff_stack.h"

namespace tessera {

// ---- directories -------------------------------------------------------------------------------

namespace {

std::string_view description_of(TIFF* handle) {
  const char* text = nullptr;
  return TIFFGetField(handle, TIFFTAG_IMAGEDESCRIPTION, &text) == 1 ? text : std::string_view{};
}

// MetaMorph's stacks count their planes by the entries of a tag of its own.
std::optional<StackDescription> metamorph_stack(TIFF* handle) {
  constexpr uint32_t kUic2 = 33629;
  uint32_t planes = 0;
  const void* entries = nullptr;
  if (TIFFFindField(handle, kUic2, TIFF_ANY) == nullptr ||
      TIFFGetField(handle, kUic2, &planes, &entries) != 1 || planes < 2)
    return std::nullopt;
  StackDescription stack;
  stack.writer = "MetaMorph";
  stack.numbers = fmt::format("{} entries of tag {}", planes, kUic2);
  stack.planes = planes;
  stack.one_directory = true;
  return stack;
}

// A directory that describes a full picture.
struct Found {
  uint64_t offset = 0;  // in the file
  int64_t slices = 1;   // of a volume
  std::optional<StackDescription> text;
};

// What the current directory says.
Found found_here(TIFF* handle, bool is_first) {
  Found found{TIFFCurrentDirOffset(handle), 1, std::nullopt};
  found.slices = std::max<int64_t>(1, tiff_field<uint32_t>(handle, TIFFTAG_IMAGEDEPTH, 1));
  require(
      found.slices == 1 || TIFFIsTiled(handle) != 0,
      "TIFF volume of {} slices behind one directory (ImageDepth) in strips, which libtiff does "
      "not find; save it as a page for each slice",
      found.slices);
  const PlaneSize size{tiff_field<uint32_t>(handle, TIFFTAG_IMAGEWIDTH, 0),
                       tiff_field<uint32_t>(handle, TIFFTAG_IMAGELENGTH, 0),
                       tiff_field<uint16_t>(handle, TIFFTAG_SAMPLESPERPIXEL, 1)};
  if (is_first) found.text = metamorph_stack(handle);
  if (!found.text) found.text = describe_stack(description_of(handle), size);
  // Of the whole file the first directory speaks; programs copy its text to the others.
  if (found.text && found.text->whole_file && !is_first) found.text.reset();
  return found;
}

// Of a directory, what tells whether more must be read of it. Found without libtiff, which takes
// ten times as long to read all tags of a stack's thousand directories.
struct Glance {
  bool is_page = true;   // not marked as an overview of a pyramid, or a mask of a picture
  bool is_plain = true;  // a single plane, and no description of a series of pages
  bool is_tiled = false;
  bool is_overview = false;  // marked so
  uint64_t width = 0, height = 0;
  uint64_t next = 0;  // offset; 0: none
};

class DirectoryWalk {
 public:
  explicit DirectoryWalk(const TiffContext& context)
      : context_(context),
        little_endian_(TIFFIsBigEndian(context.handle) == 0),
        big_(TIFFIsBigTIFF(context.handle) != 0) {}

  Glance look(uint64_t offset) const {
    const uint64_t count_size = big_ ? 8 : 2, entry_size = big_ ? 20 : 12, word = big_ ? 8 : 4;
    const uint64_t entries = number(bytes(offset, count_size), 0, count_size);
    require(entries <= UINT16_MAX, "damaged TIFF: a directory of {} entries", entries);
    const std::vector<uint8_t> all = bytes(offset + count_size, entries * entry_size + word);
    Glance glance;
    for (uint64_t at = 0; at < entries * entry_size; at += entry_size) {
      const uint64_t tag = number(all, at, 2), type = number(all, at + 2, 2);
      const uint64_t value = number(all, at + entry_size - word, type == TIFF_SHORT ? 2 : 4);
      if (tag == TIFFTAG_IMAGEWIDTH) glance.width = value;
      if (tag == TIFFTAG_IMAGELENGTH) glance.height = value;
      if (tag == TIFFTAG_TILEWIDTH) glance.is_tiled = true;
      if (tag == TIFFTAG_SUBFILETYPE) {
        glance.is_page &= (value & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)) == 0;
        glance.is_overview |=
            (value & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)) == FILETYPE_REDUCEDIMAGE;
      }
      if (tag == TIFFTAG_OSUBFILETYPE) {
        glance.is_page &= value != OFILETYPE_REDUCEDIMAGE;
        glance.is_overview |= value == OFILETYPE_REDUCEDIMAGE;
      }
      if (tag == TIFFTAG_IMAGEDEPTH) glance.is_plain &= value <= 1;
      if (tag == TIFFTAG_IMAGEDESCRIPTION && number(all, at + 4, word) > word)
        glance.is_plain &= !is_series(number(all, at + 4 + word, word));
    }
    glance.next = number(all, entries * entry_size, word);
    return glance;
  }

 private:
  std::vector<uint8_t> bytes(uint64_t offset, uint64_t size) const {
    std::vector<uint8_t> read(static_cast<size_t>(size));
    require(context_.read_raw(offset, read), "truncated TIFF: a directory at byte {} of {}", offset,
            context_.file_size());
    return read;
  }

  uint64_t number(std::span<const uint8_t> from, uint64_t at, uint64_t size) const {
    uint64_t value = 0;
    for (uint64_t i = 0; i < size; ++i)
      value = value << 8 | from[static_cast<size_t>(at + (little_endian_ ? size - 1 - i : i))];
    return value;
  }

  bool is_series(uint64_t offset) const {
    uint8_t text[kSeriesText.size()];
    return context_.read_raw(offset, text) &&
           std::memcmp(text, kSeriesText.data(), kSeriesText.size()) == 0;
  }

  const TiffContext& context_;
  bool little_endian_, big_;
};

// Whether a picture has the size of another one that was halved once or more, as the levels of a
// pyramid do; programs round either way.
bool is_level_of(const Glance& full, const Glance& one) {
  if (!full.is_tiled || !one.is_tiled || one.width >= full.width) return false;
  const auto scaled = [](uint64_t size, uint64_t whole, uint64_t factor) {
    return size == whole / factor || size == (whole + factor - 1) / factor;
  };
  for (uint64_t factor = 2; factor <= full.width; factor *= 2) {
    if (scaled(one.width, full.width, factor) && scaled(one.height, full.height, factor))
      return true;
  }
  return false;
}

// The tiled directories that are overviews go to `overviews`.
std::vector<Found> find_pages(TiffContext& context, std::vector<uint64_t>& overviews) {
  TIFF* handle = context.handle;
  uint64_t offset = TIFFCurrentDirOffset(handle);
  // libtiff notices chains that run in a circle, and those that break off, which would else look
  // like a shorter stack.
  const int64_t count = TIFFNumberOfDirectories(handle);
  require(context.error.empty(), "damaged or truncated TIFF after page {}: {}", count,
          context.error);
  const uint64_t first = offset;
  const DirectoryWalk walk(context);
  std::vector<Found> pages;
  Glance full;
  for (int64_t directory = 0; directory < count; ++directory) {
    Glance glance = walk.look(offset);
    if (directory == 0) full = glance;
    const bool is_level = is_level_of(full, glance);
    if (glance.is_tiled && (is_level || glance.is_overview)) overviews.push_back(offset);
    glance.is_page &= !is_level;
    if (glance.is_page && glance.is_plain && !pages.empty()) {
      pages.push_back({offset, 1, std::nullopt});
    } else if (glance.is_page) {
      require(TIFFSetSubDirectory(handle, offset) == 1, "damaged or truncated TIFF at page {}: {}",
              directory, context.error);
      pages.push_back(found_here(handle, pages.empty()));
    }
    offset = glance.next;
  }
  if (pages.empty()) {
    require(count == 1,
            "TIFF of {} directories, each marked as the overview or mask of another picture "
            "(NewSubfileType); expected the picture itself",
            count);
    pages.push_back({first, 1, std::nullopt});
  }
  return pages;
}

}  // namespace

TiffReader::TiffReader(const std::filesystem::path& path, int64_t max_samples)
    : context_(std::make_unique<TiffContext>()), max_samples_(max_samples) {
  // "m": not memory-mapped, because a mapped file that shrinks kills the process.
  context_->open(path, "rm");
  find_directories();
}

TiffReader::TiffReader(std::span<const uint8_t> bytes, int64_t max_samples)
    : context_(std::make_unique<TiffContext>()), max_samples_(max_samples) {
  context_->open(bytes);
  find_directories();
}

TiffReader::~TiffReader() = default;

void TiffReader::find_directories() {
  require(context_->handle != nullptr, "damaged or truncated TIFF: {}", context_->error);
  context_->error.clear();
  const std::vector<Found> found = find_pages(*context_, overviews_);
  int64_t all = 0;
  for (const Found& one : found) all += one.slices;
  // A program that cuts or converts a stack may have copied the first directory's text to the
  // others.
  const bool copied = std::ranges::all_of(found, [&](const Found& one) {
    return one.text && one.text->planes == all && !one.text->one_directory;
  });

  for (size_t i = 0; i < found.size();) {
    // The directories that one text is about: up to the next text.
    const StackDescription* const text = found[i].text ? &*found[i].text : nullptr;
    size_t end = i + 1;
    int64_t planes = found[i].slices;
    for (; end < found.size() && ((text != nullptr && text->whole_file) || !found[end].text); ++end)
      planes += found[end].slices;
    if (text != nullptr && text->channels > 1) {
      unchosen_ = fmt::format(
          "{} says that this TIFF has {}: {} channels in planes of their own. A page is one grey "
          "or RGB picture; ",
          text->writer, text->numbers, text->channels);
      const bool all_of_file = i == 0 && end == found.size() && !text->other_files &&
                               text->channel_step > 0 && text->planes % text->channels == 0 &&
                               text->planes / text->channels % text->channel_step == 0;
      if (!all_of_file) fail("{}save the channel that is meant as a file of its own", unchosen_);
      unchosen_ += fmt::format("choose one with --channel, from 0 to {}", text->channels - 1);
      channel_pages_ = text->channels;
      channel_step_ = text->channel_step;
    }
    const bool complete =
        text == nullptr || text->other_files || text->planes <= planes || (copied && planes == 1);
    if (complete) {
      for (; i < end; ++i) {
        directories_.push_back({found[i].offset, page_count_, std::nullopt, 0});
        page_count_ += found[i].slices;
      }
      continue;
    }
    const auto refuse = [&](const std::string& why) {
      fail(
          "{} says that this TIFF has {} planes ({}), but it has {} director{} with {}: {}. Save "
          "it with a directory for each plane, or remove a description that is of another file",
          text->writer, text->planes, text->numbers, end - i, end - i == 1 ? "y" : "ies", planes,
          why);
    };
    if (planes != 1) refuse("some are missing");
    if (!text->one_directory) refuse("the others are missing");
    require(TIFFSetSubDirectory(context_->handle, found[i].offset) == 1,
            "damaged or truncated TIFF: {}", context_->error);
    const char* why_not = "";
    const auto run =
        tiff_run(context_->handle, read_tiff_page(context_->handle, max_samples_), &why_not);
    if (!run) refuse(fmt::format("the others are not found behind the first, because {}", why_not));
    const uint64_t size = context_->file_size();
    const uint64_t room = size > run->begin ? (size - run->begin) / run->size : 0;
    if (room < static_cast<uint64_t>(text->planes)) {
      refuse(fmt::format("its {} bytes have room for {} planes of {} bytes from byte {} on", size,
                         room, run->size, run->begin));
    }
    directories_.push_back({found[i].offset, page_count_, run->begin, run->size});
    page_count_ += text->planes;
    i = end;
  }
}

void TiffReader::go_to_directory(uint64_t offset, int64_t page) {
  TIFF* handle = context_->handle;
  context_->error.clear();
  context_->warnings_are_errors = false;
  const bool found =
      TIFFCurrentDirOffset(handle) == offset || TIFFSetSubDirectory(handle, offset) == 1;
  require(found, "damaged or truncated TIFF at page {}: {}", page, context_->error);
}

void TiffReader::require_chosen() const {
  require(channel_pages_ == 1 || channel_, "{}", unchosen_);
}

int64_t TiffReader::page_count() const {
  require_chosen();
  return page_count_ / channel_pages_;
}

// Of the current directory.
TiffPage TiffReader::page_here(int64_t max_samples) const {
  return read_tiff_page(context_->handle, max_samples,
                        channel_pages_ == 1 ? channel_ : std::nullopt);
}

TiffPlace TiffReader::go_to(int64_t page) {
  require_chosen();
  if (channel_pages_ > 1)
    page =
        (page / channel_step_ * channel_pages_ + *channel_) * channel_step_ + page % channel_step_;
  const auto behind = std::ranges::upper_bound(directories_, page, {}, &Directory::first_page);
  const Directory& directory = *(behind - 1);
  go_to_directory(directory.offset, page);
  const int64_t slice = page - directory.first_page;
  if (!directory.raw) return {slice, std::nullopt};
  return {0, *directory.raw + static_cast<uint64_t>(slice) * directory.raw_size};
}

std::vector<uint64_t> TiffReader::smaller(const Directory& directory) {
  go_to_directory(directory.offset, directory.first_page);
  uint16_t count = 0;
  const uint64_t* places = nullptr;
  if (TIFFGetField(context_->handle, TIFFTAG_SUBIFD, &count, &places) != 1 || count == 0)
    return page_count_ == 1 ? overviews_ : std::vector<uint64_t>();
  constexpr uint16_t kMost = 64;  // halvings of any size
  require(count <= kMost, "TIFF of {} levels (SubIFDs), expected {} at most", count, kMost);
  std::vector<uint64_t> found(places, places + count);
  found.erase(std::ranges::find(found, uint64_t{0}), found.end());  // that are not written yet
  return found;
}

std::vector<PyramidLevel> TiffReader::levels() {
  const ImageLayout full = layout(0);
  std::vector<PyramidLevel> all{{full.height, full.width}};
  for (const uint64_t offset : smaller(directories_[0])) {
    go_to_directory(offset, 0);
    const TiffPage page = page_here(kMaxSamplesInParts);
    all.push_back({page.height, page.width});
  }
  return all;
}

void TiffReader::choose_level(int64_t level) {
  if (level == 0) return;
  for (Directory& directory : directories_) {
    const std::vector<uint64_t> offsets = smaller(directory);
    require(!directory.raw && static_cast<size_t>(level) <= offsets.size(),
            "page {} has {} levels, the first page has more; leave out --level",
            directory.first_page, 1 + offsets.size());
    directory.offset = offsets[static_cast<size_t>(level - 1)];
  }
}

void TiffReader::choose_channel(int64_t channel) {
  require(channel_pages_ == 1 || (channel >= 0 && channel < channel_pages_),
          "--channel {}: it has {} channels (counted from 0)", channel, channel_pages_);
  channel_ = channel;
}

Image TiffReader::read(int64_t page_index, StoredValues* stored) {
  const TiffPlace place = go_to(page_index);
  const TiffPage page = page_here(max_samples_);
  return read_tiff_image(*context_, page, place, {0, 0, page.height, page.width}, stored);
}

ImageLayout TiffReader::layout(int64_t page_index) {
  go_to(page_index);
  const TiffPage page = page_here(kMaxSamplesInParts);
  const int64_t bytes = page.has_palette || page.bits <= 8 ? 1 : page.bits <= 16 ? 2 : 4;
  ImageLayout layout{page.height, page.width,        page.channels(),
                     bytes,       page.chunk_height, page.chunk_width};
  if (tiff_rows_lie_open(context_->handle, page)) layout.chunk_height = layout.chunk_width = 1;
  return layout;
}

Image TiffReader::read_part(int64_t page_index, const ImageWindow& part, StoredValues* stored) {
  const TiffPlace place = go_to(page_index);
  const TiffPage page = page_here(kMaxSamplesInParts);
  require(0 <= part.y0 && part.y0 < part.y1 && part.y1 <= page.height && 0 <= part.x0 &&
              part.x0 < part.x1 && part.x1 <= page.width,
          "rows {} to {} and columns {} to {} do not lie in a picture of {} x {}", part.y0, part.y1,
          part.x0, part.x1, page.height, page.width);
  require_readable_size(part.y1 - part.y0, part.x1 - part.x0, page.channels(), kMaxSamples);
  const bool open = tiff_rows_lie_open(context_->handle, page);
  samples_decoded_ += page.channels() *
                      whole_chunks(part.y0, part.y1, open ? 1 : page.chunk_height, page.height) *
                      whole_chunks(part.x0, part.x1, open ? 1 : page.chunk_width, page.width);
  return read_tiff_image(*context_, page, place, part, stored);
}

bool TiffReader::recognises(std::span<const uint8_t> bytes) {
  constexpr std::string_view kMagics[] = {
      {"II\x2a\0", 4}, {"MM\0\x2a", 4}, {"II\x2b\0", 4}, {"MM\0\x2b", 4}};
  return std::any_of(std::begin(kMagics), std::end(kMagics), [&](std::string_view magic) {
    return bytes.size() >= 4 && std::memcmp(bytes.data(), magic.data(), 4) == 0;
  });
}

}  // namespace tessera
