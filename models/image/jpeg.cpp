#include "models/image/jpeg.h"

// jpeglib.h uses FILE without including it.
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>
#include <string>

#include "kernels/error.h"

// libjpeg reports errors by longjmp, which must not cross a C++ object with a destructor. So every
// function below that calls setjmp keeps its objects in a JpegDecoder of its caller.
namespace tessera {
namespace {

// A progressive file may hold any number of scans, each of which visits every block: a small file
// could keep the decoder busy for hours. Encoders write about ten.
constexpr int kMaxScans = 100;

struct JpegDecoder {
  JpegDecoder() {
    jpeg.err = jpeg_std_error(&errors);
    jpeg.client_data = this;
    errors.error_exit = on_error;
    errors.emit_message = on_message;
    progress.progress_monitor = on_progress;
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&jpeg); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  [[noreturn]] static void on_error(j_common_ptr jpeg) {
    auto* self = static_cast<JpegDecoder*>(jpeg->client_data);
    jpeg->err->format_message(jpeg, self->message);
    std::longjmp(self->jump, 1);
  }

  // Warnings (level -1) mean damage, apart from those about headers of sloppy writers.
  static void on_message(j_common_ptr jpeg, int level) {
    const int code = jpeg->err->msg_code;
    const bool harmless = level >= 0 || code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM ||
                          code == JWRN_JFIF_MAJOR;
    if (!harmless) on_error(jpeg);
  }

  static void on_progress(j_common_ptr jpeg) {
    if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kMaxScans) return;
    auto* self = static_cast<JpegDecoder*>(jpeg->client_data);
    std::snprintf(self->message, sizeof(self->message), "more than %d scans", kMaxScans);
    std::longjmp(self->jump, 1);
  }

  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = {};
};

bool read_header(JpegDecoder& decoder, std::span<const uint8_t> bytes) {
  if (setjmp(decoder.jump) != 0) return false;
  jpeg_create_decompress(&decoder.jpeg);
  decoder.jpeg.progress = &decoder.progress;
  jpeg_mem_src(&decoder.jpeg, bytes.data(), bytes.size());
  jpeg_read_header(&decoder.jpeg, TRUE);
  return true;
}

bool start(JpegDecoder& decoder) {
  if (setjmp(decoder.jump) != 0) return false;
  jpeg_start_decompress(&decoder.jpeg);
  return true;
}

bool read_row(JpegDecoder& decoder, JSAMPROW row) {
  if (setjmp(decoder.jump) != 0) return false;
  jpeg_read_scanlines(&decoder.jpeg, &row, 1);
  return true;
}

bool finish(JpegDecoder& decoder) {
  if (setjmp(decoder.jump) != 0) return false;
  jpeg_finish_decompress(&decoder.jpeg);
  return true;
}

}  // namespace

Image decode_jpeg(std::span<const uint8_t> bytes, int64_t max_samples) {
  JpegDecoder decoder;
  const auto require_ok = [&](bool ok) {
    require(ok, "damaged or truncated JPEG: {}", decoder.message);
  };
  require_ok(read_header(decoder, bytes));
  jpeg_decompress_struct& jpeg = decoder.jpeg;

  Image image;
  image.height = jpeg.image_height;
  image.width = jpeg.image_width;
  image.channels = jpeg.jpeg_color_space == JCS_GRAYSCALE ? 1 : 3;
  require(jpeg.num_components == image.channels,
          "JPEG with {} components, expected 1 (grey) or 3 (colour), not CMYK; save it as RGB",
          jpeg.num_components);
  require_readable_size(image.height, image.width, image.channels, max_samples);
  // Each 8 x 8 block of the finest component takes at least one bit.
  constexpr int64_t kMaxPixelsPerByte = 8 * 64;
  require(image.height * image.width / kMaxPixelsPerByte <= static_cast<int64_t>(bytes.size()),
          "truncated JPEG: {} bytes cannot hold the {} x {} pixels (width x height) of its header",
          bytes.size(), image.width, image.height);

  jpeg.out_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  require_ok(start(decoder));
  std::vector<uint8_t> pixels(static_cast<size_t>(image.samples()));
  for (int64_t y = 0; y < image.height; ++y) {
    require_ok(read_row(decoder, pixels.data() + y * image.width * image.channels));
  }
  require_ok(finish(decoder));
  image.pixels = std::move(pixels);
  return image;
}

}  // namespace tessera
