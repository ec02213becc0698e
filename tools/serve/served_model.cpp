#include "tools/serve/served_model.h"

#include <algorithm>

#include "kernels/error.h"
#include "models/image/image_io.h"
#include "models/image/instances.h"

namespace tessera::serve {

using nlohmann::json;

namespace {

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

ImageView::Type pixel_type(const Tensor& tensor) {
  switch (tensor.type) {
    case DataType::kU8:
      return ImageView::Type::kU8;
    case DataType::kU16:
      return ImageView::Type::kU16;
    case DataType::kU32:
      return ImageView::Type::kU32;
    case DataType::kF32:
      return ImageView::Type::kF32;
    case DataType::kBytes:
      break;
  }
  fail("input {} is no image of numbers", tensor.name);
}

// The images of a tensor, (n, height, width[, channels]).
std::vector<ImageView> images_of(const Tensor& tensor) {
  const std::size_t axes = tensor.shape.size();
  require(axes == 3 || axes == 4,
          "input {} has {} axes; send (batch, height, width) or (batch, height, width, channels)",
          tensor.name, axes);
  std::vector<ImageView> images(static_cast<std::size_t>(tensor.shape[0]));
  const std::size_t bytes = tensor.bytes.size() / images.size();
  for (std::size_t i = 0; i < images.size(); ++i) {
    images[i] = {tensor.bytes.data() + i * bytes, tensor.shape[1], tensor.shape[2],
                 axes == 4 ? tensor.shape[3] : 1, pixel_type(tensor)};
  }
  return images;
}

ImageView view_of(const Image& image) {
  Tensor tensor;
  tensor.shape = {1, image.height, image.width, image.channels};
  std::visit(
      [&]<class T>(const std::vector<T>& pixels) {
        tensor.type = std::is_floating_point_v<T> ? DataType::kF32
                      : sizeof(T) == 1            ? DataType::kU8
                      : sizeof(T) == 2            ? DataType::kU16
                                                  : DataType::kU32;
        tensor.bytes = {reinterpret_cast<const std::uint8_t*>(pixels.data()),
                        pixels.size() * sizeof(T)};
      },
      image.pixels);
  return images_of(tensor).front();
}

// Files decoded, in bytes of at most `max_bytes` together.
std::vector<Image> decode(const Tensor& tensor, std::uint64_t max_bytes) {
  std::vector<Image> images;
  std::uint64_t left = max_bytes;
  for (const std::string_view file : elements(tensor)) {
    const std::string name = fmt::format("image {} of input {}", images.size(), tensor.name);
    const std::int64_t most = std::min<std::uint64_t>(left, kMaxSamples);
    ImageReader reader(std::vector<std::uint8_t>(file.begin(), file.end()), name, most);
    require(reader.page_count() == 1, "{} has {} pages; send each as an image of its own", name,
            reader.page_count());
    images.push_back(reader.read());
    left -= static_cast<std::uint64_t>(images.back().samples());
    require(images.back().height == images[0].height && images.back().width == images[0].width,
            "{} has {} x {} pixels, the first one {} x {}; send images of other sizes as requests "
            "of their own",
            name, images.back().height, images.back().width, images[0].height, images[0].width);
  }
  return images;
}

void require_wanted(TritonRequest* request) {
  if (is_cancelled(request))
    throw StatusError(ErrorCode::kCancelled, "the client no longer waits for an answer");
}

}  // namespace

ServedModel::ServedModel(const std::string& path, Settings settings)
    : settings_(std::move(settings)),
      model_(Model::open(path, settings_.session)),
      format_(model_.classes(), {.json = true, .attention = true}) {}

std::vector<OutputTensor> ServedModel::segment(TritonRequest* request) const {
  require_wanted(request);
  const Tensor tensor = only_input(request, settings_.max_request_bytes);
  std::vector<Image> decoded;
  std::vector<ImageView> images;
  if (tensor.type == DataType::kBytes) {
    decoded = decode(tensor, settings_.max_request_bytes);
    for (const Image& image : decoded) images.push_back(view_of(image));
  } else {
    images = images_of(tensor);
  }
  const auto count = static_cast<std::int64_t>(images.size());
  const std::int64_t height = images[0].height, width = images[0].width;

  OutputTensor mask{kMask, DataType::kU8, {count, height, width}, {}};
  OutputTensor probabilities{kProbabilities, DataType::kF32, {count, height, width, 0}, {}};
  std::vector<std::string> objects;
  const bool wants_objects = wants(request, kObjects);
  const bool wants_probabilities = wants(request, kProbabilities);
  require(!wants_probabilities || settings_.session.probabilities,
          "this model is served without {} (its parameter probabilities is false)", kProbabilities);
  for (const ImageView& image : images) {
    const Segmentation result =
        model_.segment(image, [&](std::int64_t, std::int64_t) { require_wanted(request); });
    mask.bytes += bytes_of(result.mask);
    probabilities.shape[3] = result.outputs;
    if (wants_probabilities) probabilities.bytes += bytes_of(result.probabilities);
    if (wants_objects)
      objects.push_back(dump(to_json(find_instances(result.mask, height, width, {}).objects)));
  }
  std::vector<OutputTensor> outputs;
  if (wants(request, kMask)) outputs.push_back(std::move(mask));
  if (wants_probabilities) outputs.push_back(std::move(probabilities));
  if (wants_objects) outputs.push_back(bytes_output(kObjects, objects));
  return outputs;
}

ServedModel::Documents ServedModel::read_documents(TritonRequest* request) const {
  require_wanted(request);
  Documents documents{only_input(request, settings_.max_request_bytes), {}};
  documents.texts = elements(documents.tensor);
  return documents;
}

std::vector<Classification> ServedModel::classify(const std::vector<std::string_view>& texts,
                                                  std::span<TritonRequest* const> requests) const {
  return model_.classify(texts, [&](std::int64_t, std::int64_t) {
    if (std::ranges::all_of(requests, is_cancelled)) require_wanted(requests[0]);
  });
}

std::vector<OutputTensor> ServedModel::outputs(TritonRequest* request,
                                               std::span<const Classification> answers) const {
  OutputTensor probabilities{kProbabilities,
                             DataType::kF32,
                             {static_cast<std::int64_t>(answers.size()),
                              static_cast<std::int64_t>(model_.classes().size())},
                             {}};
  std::vector<std::string> labels, attention;
  const bool wants_attention = wants(request, kAttention);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    require(answers[i].error.empty(), "document {}: {}", i, answers[i].error);
    labels.push_back(model_.classes()[answers[i].label].name);
    probabilities.bytes += bytes_of(answers[i].probabilities);
    if (wants_attention) attention.push_back(dump(format_.answer(answers[i])));
  }
  std::vector<OutputTensor> outputs;
  if (wants(request, kLabel)) outputs.push_back(bytes_output(kLabel, labels));
  if (wants(request, kProbabilities)) outputs.push_back(std::move(probabilities));
  if (wants_attention) outputs.push_back(bytes_output(kAttention, attention));
  return outputs;
}

}  // namespace tessera::serve
