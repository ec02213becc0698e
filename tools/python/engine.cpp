// The module tessera._engine: Tessera's C++ interface on NumPy arrays. What users see is made of it
// in tessera/__init__.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <tessera/session.h>

#include <array>
#include <bit>
#include <optional>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// Rows without gaps; nanobind copies what has some.
using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
// The fields of tessera.Window and of the engine's, in order.
using Window = std::array<std::int64_t, sizeof(tessera::SegmentationWindow) / sizeof(std::int64_t)>;
using Scale = std::optional<std::pair<float, float>>;  // offset, divisor
using Progress = std::optional<std::function<void(std::int64_t, std::int64_t)>>;

// A NumPy array that owns `values`.
template <class T>
nb::object to_array(std::vector<T>&& values, std::initializer_list<std::size_t> shape) {
  auto* kept = new std::vector<T>(std::move(values));
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(kept->data(), shape, owner));
}

tessera::ImageView view_of(const Array& image) {
  if (image.ndim() != 2 && image.ndim() != 3) {
    throw nb::value_error(("an image is an array (height, width) or (height, width, channels), not "
                           "one of " +
                           std::to_string(image.ndim()) + " axes")
                              .c_str());
  }
  const auto extent = [&](std::size_t axis) {
    return static_cast<std::int64_t>(image.shape(axis));
  };
  tessera::ImageView view{
      image.data(), extent(0), extent(1), image.ndim() == 3 ? extent(2) : 1, {}};
  using Type = tessera::ImageView::Type;
  if (image.dtype() == nb::dtype<std::uint8_t>()) {
    view.type = Type::kU8;
  } else if (image.dtype() == nb::dtype<std::uint16_t>()) {
    view.type = Type::kU16;
  } else if (image.dtype() == nb::dtype<std::uint32_t>()) {
    view.type = Type::kU32;
  } else if (image.dtype() == nb::dtype<float>()) {
    view.type = Type::kF32;
  } else {
    throw nb::type_error(
        "an image is uint8, uint16, uint32 or float32; convert it, for example "
        "with image.astype('float32')");
  }
  return view;
}

// Called without the GIL, between tiles or batches: Ctrl-C and what `progress` raises end the call.
tessera::Session::Progress hook(const Progress& progress) {
  return [&progress](std::int64_t done, std::int64_t all) {
    const nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (progress) (*progress)(done, all);
  };
}

tessera::Model open(const std::string& path, const std::string& device,
                    const std::string& precision, int threads, std::uint64_t max_memory, int tile,
                    const std::string& range, bool probabilities,
                    std::optional<std::function<void(const std::string&)>> on_note) {
  tessera::SessionOptions options{.device = device,
                                  .precision = precision,
                                  .threads = threads,
                                  .max_memory = max_memory,
                                  .tile = tile,
                                  .range = range,
                                  .probabilities = probabilities};
  if (on_note) {
    options.on_note = [on_note](std::string_view line) {
      const nb::gil_scoped_acquire gil;
      (*on_note)(std::string(line));
    };
  }
  const nb::gil_scoped_release unlocked;
  return tessera::Model::open(path, options);
}

// Mask and probabilities, or none.
nb::tuple to_arrays(tessera::Segmentation&& result) {
  const auto height = static_cast<std::size_t>(result.height);
  const auto width = static_cast<std::size_t>(result.width);
  const auto outputs = static_cast<std::size_t>(result.outputs);
  nb::object probabilities = nb::none();
  if (outputs > 0)
    probabilities = to_array(std::move(result.probabilities), {height, width, outputs});
  return nb::make_tuple(to_array(std::move(result.mask), {height, width}), probabilities);
}

nb::tuple segment(const tessera::Model& model, const Array& image, const Progress& progress) {
  const tessera::ImageView view = view_of(image);
  tessera::Segmentation result;
  {
    const nb::gil_scoped_release unlocked;
    result = model.segment(view, hook(progress));
  }
  return to_arrays(std::move(result));
}

nb::tuple segment_window(const tessera::Model& model, const Array& pixels, const Window& window,
                         const Scale& scale, const Progress& progress) {
  const tessera::ImageView view = view_of(pixels);
  tessera::PixelScale whole;
  if (scale) whole = {scale->first, scale->second};
  tessera::Segmentation result;
  {
    const nb::gil_scoped_release unlocked;
    result = model.segment_window(view, std::bit_cast<tessera::SegmentationWindow>(window),
                                  scale ? &whole : nullptr, hook(progress));
  }
  return to_arrays(std::move(result));
}

std::vector<Window> windows(const tessera::Model& model, std::int64_t height, std::int64_t width,
                            std::int64_t tile) {
  const nb::gil_scoped_release unlocked;
  std::vector<Window> all;
  for (const tessera::SegmentationWindow& one : model.windows(height, width, tile))
    all.push_back(std::bit_cast<Window>(one));
  return all;
}

Scale pixel_scale(const tessera::Model& model, std::int64_t height,
                  const std::function<Array(std::int64_t)>& rows) {
  if (!model.needs_pixel_scale()) return std::nullopt;
  Array held;  // while the engine reads it
  const nb::gil_scoped_release unlocked;
  const tessera::PixelScale scale = model.pixel_scale([&](const auto& take) {
    for (std::int64_t y = 0; y < height;) {
      tessera::ImageView view;
      {
        const nb::gil_scoped_acquire gil;
        held = rows(y);
        view = view_of(held);
      }
      take(view);
      y += view.height;
    }
  });
  return std::pair{scale.offset, scale.divisor};
}

std::vector<tessera::Classification> classify(const tessera::Model& model, const nb::list& texts,
                                              const Progress& progress) {
  std::vector<std::string_view> views;  // into the strings, which the list holds
  for (const nb::handle text : texts) {
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (bytes == nullptr) throw nb::python_error();
    views.emplace_back(bytes, static_cast<std::size_t>(size));
  }
  const nb::gil_scoped_release unlocked;
  return model.classify(views, hook(progress));
}

nb::tuple find_objects(const Mask& mask, int connectivity, std::int64_t min_area) {
  tessera::Objects found;
  const std::size_t height = mask.shape(0), width = mask.shape(1);
  {
    const nb::gil_scoped_release unlocked;
    found = tessera::find_objects(mask.data(), static_cast<std::int64_t>(height),
                                  static_cast<std::int64_t>(width),
                                  {.connectivity = connectivity, .min_area = min_area});
  }
  return nb::make_tuple(to_array(std::move(found.labels), {height, width}),
                        nb::cast(std::move(found.objects)));
}

}  // namespace

NB_MODULE(_engine, m) {
  nb::set_leak_warnings(false);  // viewers and servers keep their models to the end
  m.doc() = "Tessera's C++ interface; use the package tessera.";

  nb::class_<tessera::ClassInfo>(m, "ClassInfo")
      .def_ro("name", &tessera::ClassInfo::name)
      .def_prop_ro("colour", [](const tessera::ClassInfo& one) {
        return nb::make_tuple(one.colour[0], one.colour[1], one.colour[2]);
      });

  nb::class_<tessera::Object>(m, "Object", "A connected component of a class; lengths in pixels.")
      .def_ro("label", &tessera::Object::label)
      .def_ro("class_id", &tessera::Object::class_id)
      .def_ro("area", &tessera::Object::area)
      .def_ro("x", &tessera::Object::x)
      .def_ro("y", &tessera::Object::y)
      .def_ro("width", &tessera::Object::width)
      .def_ro("height", &tessera::Object::height)
      .def_ro("centroid_x", &tessera::Object::centroid_x)
      .def_ro("centroid_y", &tessera::Object::centroid_y);

  nb::class_<tessera::SegmentationPlan>(m, "Plan", "How an image of some size would run.")
      .def_ro("tiles", &tessera::SegmentationPlan::tiles, "1: the whole image at once")
      .def_ro("tile_height", &tessera::SegmentationPlan::tile_height, "pixels")
      .def_ro("tile_width", &tessera::SegmentationPlan::tile_width, "pixels")
      .def_ro("work", &tessera::SegmentationPlan::work,
              "operations of all tiles, over those of the whole at once")
      .def_ro("weights", &tessera::SegmentationPlan::weights, "bytes")
      .def_ro("arena", &tessera::SegmentationPlan::arena, "bytes of intermediate maps")
      .def_ro("images", &tessera::SegmentationPlan::images, "bytes of pixels and results")
      .def_ro("device", &tessera::SegmentationPlan::device, "bytes of a GPU's memory")
      .def_ro("peak", &tessera::SegmentationPlan::peak, "bytes of the process")
      .def_ro("memory_map", &tessera::SegmentationPlan::memory_map, "every buffer, as text");

  nb::class_<tessera::AttendedWord>(m, "AttendedWord")
      .def_ro("begin", &tessera::AttendedWord::begin, "byte of the text in UTF-8")
      .def_ro("end", &tessera::AttendedWord::end)
      .def_ro("weight", &tessera::AttendedWord::weight)
      .def_ro("known", &tessera::AttendedWord::known);
  nb::class_<tessera::AttendedSentence>(m, "AttendedSentence")
      .def_ro("begin", &tessera::AttendedSentence::begin, "byte of the text in UTF-8")
      .def_ro("end", &tessera::AttendedSentence::end)
      .def_ro("weight", &tessera::AttendedSentence::weight)
      .def_ro("words", &tessera::AttendedSentence::words);
  nb::class_<tessera::Classification>(m, "Classification")
      .def_ro("error", &tessera::Classification::error)
      .def_ro("label", &tessera::Classification::label)
      .def_ro("probabilities", &tessera::Classification::probabilities)
      .def_ro("sentences", &tessera::Classification::sentences)
      .def_ro("sentences_dropped", &tessera::Classification::sentences_dropped)
      .def_ro("words_dropped", &tessera::Classification::words_dropped)
      .def_ro("unknown_words", &tessera::Classification::unknown_words);

  nb::class_<tessera::Model>(m, "Model")
      .def_prop_ro("segments",
                   [](const tessera::Model& model) {
                     return model.task() == tessera::Session::Task::kSegment;
                   })
      .def_prop_ro("classes", [](const tessera::Model& model) { return model.classes(); })
      .def_prop_ro("device", &tessera::Model::device)
      .def_prop_ro("precision", &tessera::Model::precision)
      .def_prop_ro("parameters", &tessera::Model::parameters)
      .def_prop_ro("config_json", &tessera::Model::config_json)
      .def("segment", &segment, "image"_a, "progress"_a = nb::none())
      .def("classify", &classify, "texts"_a, "progress"_a = nb::none())
      .def("plan", nb::overload_cast<std::int64_t, std::int64_t>(&tessera::Model::plan, nb::const_),
           "height"_a, "width"_a, nb::call_guard<nb::gil_scoped_release>())
      .def(
          "plan_window",
          [](const tessera::Model& model, const Window& window, std::uint64_t pixel_bytes) {
            return model.plan(std::bit_cast<tessera::SegmentationWindow>(window), pixel_bytes);
          },
          "window"_a, "pixel_bytes"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("windows", &windows, "height"_a, "width"_a, "tile"_a)
      .def(
          "window",
          [](const tessera::Model& model, std::int64_t image_height, std::int64_t image_width,
             std::int64_t y, std::int64_t x, std::int64_t height, std::int64_t width) {
            return std::bit_cast<Window>(
                model.window(image_height, image_width, y, x, height, width));
          },
          "image_height"_a, "image_width"_a, "y"_a, "x"_a, "height"_a, "width"_a,
          nb::call_guard<nb::gil_scoped_release>())
      .def(
          "window_grid",
          [](const tessera::Model& model, std::int64_t height, std::int64_t width,
             std::array<std::int64_t, 2> multiples, bool or_any, std::uint64_t pixel_bytes,
             std::int64_t tile, std::uint64_t max_memory) {
            const tessera::WindowGrid grid = model.window_grid(height, width,
                                                               {.height_multiple = multiples[0],
                                                                .width_multiple = multiples[1],
                                                                .or_any = or_any,
                                                                .pixel_bytes = pixel_bytes,
                                                                .tile = tile,
                                                                .max_memory = max_memory});
            return std::pair{grid.height, grid.width};
          },
          "height"_a, "width"_a, "multiples"_a, "or_any"_a, "pixel_bytes"_a, "tile"_a,
          "max_memory"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("segment_window", &segment_window, "pixels"_a, "window"_a, "scale"_a,
           "progress"_a = nb::none())
      .def("pixel_scale", &pixel_scale, "height"_a, "rows"_a);

  m.def("open", &open, "path"_a, "device"_a, "precision"_a, "threads"_a, "max_memory"_a, "tile"_a,
        "range"_a, "probabilities"_a, "on_note"_a = nb::none());
  m.def("find_objects", &find_objects, "mask"_a, "connectivity"_a = 8, "min_area"_a = 1);
}
