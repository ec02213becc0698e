// ONNX files: what torch.onnx writes, against PyTorch; the test suite of ONNX, where it is at hand;
// and files that were made to harm.
#include <gmock/gmock.h>
#include <onnx.pb.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "models/import/import.h"
#include "models/import/numpy_file.h"
#include "models/import/onnx_converter.h"
#include "models/import/onnx_network.h"
#include "models/network_run.h"
#include "models/session.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

fs::path golden(const std::string& name) {
  return source_dir() / "tests/golden/import/onnx" / name;
}

struct Difference {
  double largest = 0, scale = 0;
};

// Of an answer from what was expected, whose shape may lack axes of 1; infinite where one is NaN
// and the other is not.
Difference difference(const TensorView& answer, const StoredTensor& expected) {
  Difference result;
  EXPECT_EQ(answer.shape().elements(), expected.elements());
  StoredTensor flat = expected;
  if (flat.strides.empty()) flat.shape = {expected.elements()};
  std::vector<double> values;
  if (flat.is_float()) {
    const FloatTensor read = read_floats(flat);
    values.assign(read.values.begin(), read.values.end());
  } else {
    const auto read = read_integers(flat);
    values.assign(read.begin(), read.end());
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double mine =
        answer.type.dtype == DType::kU8 ? answer.as<std::uint8_t>()[i] : answer.as<float>()[i];
    if (mine == values[i] || (std::isnan(mine) && std::isnan(values[i]))) continue;
    const double apart = std::abs(mine - values[i]);
    result.largest = apart <= result.largest ? result.largest : apart;
    if (std::isfinite(values[i])) result.scale = std::max(result.scale, std::abs(values[i]));
  }
  return result;
}

// ---- what torch.onnx writes --------------------------------------------------------------------

struct Export {
  std::string network, exporter, size;
};
class TorchExport : public testing::TestWithParam<Export> {};

// f32 against PyTorch's f64: 1e-5 of the largest value.
TEST_P(TorchExport, GivesWhatPyTorchGives) {
  const auto& [network, exporter, size] = GetParam();
  const fs::path path = golden(network + "_" + exporter + "_" + size + ".onnx");
  const NumpyArray input = read_numpy(golden(network + "_" + size + "_input.npy"));
  const NumpyArray output = read_numpy(golden(network + "_" + size + "_output.npy"));
  ImportOptions options;
  options.choices["shape"] = fmt::format("1x{}x{}x{}", input.tensor.shape[1], input.tensor.shape[2],
                                         input.tensor.shape[3]);
  ModelFile model = open_model(path, options);
  const auto answers = run_network(model, {{"image", input.tensor}}, open_cpu_device(2));
  const auto [largest, scale] = difference(answers.at("answer").view(), output.tensor);
  EXPECT_TRUE(largest <= 1e-5 * scale) << largest << " of " << scale;
  for (const Node& node : build_network(model.config).nodes)  // maps stay as they are
    EXPECT_TRUE(network == "shuffle" || !std::holds_alternative<Transpose>(node.op)) << node.name;
}

std::vector<Export> exports() {
  std::vector<Export> all;
  for (const char* network : {"padded", "bilinear", "residual", "valid", "shuffle"})
    for (const char* exporter : {"script", "dynamo"})
      for (const char* size : {"static", "dynamic"})
        if (std::string_view(network) != "valid" || std::string_view(exporter) == "script")
          all.push_back({network, exporter, size});
  return all;
}
INSTANTIATE_TEST_SUITE_P(, TorchExport, testing::ValuesIn(exports()), [](const auto& one) {
  return one.param.network + "_" + one.param.exporter + "_" + one.param.size;
});

TEST(ImportOnnx, NetworksOfImagesSegmentAnySize) {
  for (const char* name : {"padded_script_dynamic", "bilinear_dynamo_dynamic",
                           "residual_script_static", "valid_script_dynamic"}) {
    SCOPED_TRACE(name);
    SessionOptions options{.device = "cpu", .threads = 2};
    Session session = Session::open(golden(std::string(name) + ".onnx").string(), options);
    const bool grey = std::string_view(name).substr(0, 6) != "padded";
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(71 * 50 * (grey ? 1 : 3)));
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
    const Segmentation result = session.segment(
        {.pixels = pixels.data(), .height = 71, .width = 50, .channels = grey ? 1 : 3});
    EXPECT_EQ(result.mask.size(), 71u * 50u);
  }
}

TEST(ImportOnnx, TellsWhatItTookForGranted) {
  const Imported padded = import_model(golden("padded_script_dynamic.onnx"));
  EXPECT_EQ(padded.family, "ONNX graph");
  EXPECT_EQ(padded.config.graph->multiple, 4);
  ASSERT_EQ(padded.guesses.size(), 2u);
  EXPECT_EQ(padded.guesses[0].name + padded.guesses[0].value, "outputsoftmax");
  EXPECT_EQ(padded.guesses[1].name + padded.guesses[1].value, "scaleunit");
  EXPECT_EQ(padded.config.classes.size(), 3u);
  const Imported bilinear = import_model(golden("bilinear_script_dynamic.onnx"));
  EXPECT_EQ(bilinear.guesses.size(), 1u);  // it ends in a sigmoid
  EXPECT_EQ(bilinear.config.graph->network.outputs[0].kind, NetworkOutput::Kind::kProbabilities);
  ImportOptions options;
  options.choices = {{"output", "sigmoid"}, {"scale", "min_max"}};
  const Imported chosen = import_model(golden("padded_script_dynamic.onnx"), options);
  EXPECT_TRUE(chosen.guesses.empty());
  EXPECT_EQ(chosen.config.graph->network.outputs[0].activation, Head::Output::kSigmoid);
  EXPECT_EQ(chosen.config.preprocessing.scale, Scale::kMinMax);
}

// A model file made of one is the same network, and keeps its native axes.
TEST(ImportOnnx, SavedAsAModelFileItIsTheSame) {
  const TempFolder folder;
  const Imported imported = import_model(golden("residual_script_dynamic.onnx"));
  save_model(folder.path() / "net.safetensors", imported.config, imported.tensors, std::nullopt);
  const NumpyArray input = read_numpy(golden("residual_dynamic_input.npy"));
  const NumpyArray output = read_numpy(golden("residual_dynamic_output.npy"));
  ModelFile model = ModelFile::open(folder.path() / "net.safetensors");
  const auto answers = run_network(model, {{"image", input.tensor}}, open_cpu_device(1));
  EXPECT_TRUE(difference(answers.at("answer").view(), output.tensor).largest <= 1e-5);
}

// ---- files made by hand ------------------------------------------------------------------------

// A graph x (1, 2, 4, 4) -> nodes -> y.
class Made {
 public:
  Made() {
    proto_.set_ir_version(8);
    proto_.add_opset_import()->set_version(17);
    add_value(*proto_.mutable_graph()->add_input(), "x");
    add_value(*proto_.mutable_graph()->add_output(), "y");
  }
  onnx::ModelProto& proto() { return proto_; }
  onnx::GraphProto& graph() { return *proto_.mutable_graph(); }
  onnx::NodeProto& node(const std::string& op, std::vector<std::string> inputs,
                        const std::string& output) {
    onnx::NodeProto& node = *graph().add_node();
    node.set_op_type(op);
    node.set_name(op + "_of_" + output);
    for (const std::string& input : inputs) node.add_input(input);
    node.add_output(output);
    return node;
  }
  onnx::TensorProto& floats(const std::string& name, std::vector<std::int64_t> dims,
                            std::size_t count) {
    onnx::TensorProto& tensor = *graph().add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    for (const std::int64_t dim : dims) tensor.add_dims(dim);
    for (std::size_t i = 0; i < count; ++i) tensor.add_float_data(0.5f + static_cast<float>(i));
    return tensor;
  }
  OnnxModel read(const fs::path& folder = "/nonexistent") const {
    const std::string bytes = proto_.SerializeAsString();
    return read_onnx(std::as_bytes(std::span(bytes)), "made.onnx", folder);
  }
  std::string error(const fs::path& folder = "/nonexistent") const {
    try {
      import_onnx(read(folder), {});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

 private:
  static void add_value(onnx::ValueInfoProto& value, const std::string& name) {
    value.set_name(name);
    auto& tensor = *value.mutable_type()->mutable_tensor_type();
    tensor.set_elem_type(onnx::TensorProto::FLOAT);
    for (const std::int64_t dim : {1, 2, 4, 4})
      tensor.mutable_shape()->add_dim()->set_dim_value(dim);
  }
  onnx::ModelProto proto_;
};

TEST(ImportOnnx, ListsAllThatIsNotSupportedAtOnce) {
  Made made;
  made.node("Det", {"x"}, "a");
  made.node("Relu", {"x"}, "b");
  made.node("Sin", {"b"}, "c");
  made.node("Add", {"a", "c"}, "y");  // reads what could not be made: not told
  EXPECT_THAT(made.error(),
              testing::AllOf(HasSubstr("2 of its nodes"), HasSubstr("Det 'Det_of_a'"),
                             HasSubstr("Sin 'Sin_of_c'"), testing::Not(HasSubstr("Add"))));
}

TEST(ImportOnnx, QuantisedNetworksAreNamedAsSuch) {
  Made made;
  made.floats("scale", {}, 1);
  made.node("QuantizeLinear", {"x", "scale"}, "q");
  made.node("DequantizeLinear", {"q", "scale"}, "y");
  EXPECT_THAT(made.error(), testing::AllOf(HasSubstr("QuantizeLinear 'QuantizeLinear_of_q'"),
                                           HasSubstr("export it without quantisation")));
}

TEST(ImportOnnx, RefusesCyclesAndDoubleNames) {
  Made cycle;
  cycle.node("Add", {"x", "b"}, "a");
  cycle.node("Relu", {"a"}, "b");
  cycle.node("Relu", {"b"}, "y");
  EXPECT_THAT(cycle.error(), HasSubstr("cycle"));
  Made twice;
  twice.node("Relu", {"x"}, "y");
  twice.node("Relu", {"x"}, "y");
  EXPECT_THAT(twice.error(), HasSubstr("two values are called 'y'"));
}

TEST(ImportOnnx, ChecksTensorsAgainstTheirBytes) {
  const auto error_with = [](const auto& change) {
    Made made;
    onnx::TensorProto& tensor = made.floats("w", {2, 1, 1}, 2);
    change(tensor);
    made.node("Mul", {"x", "w"}, "y");
    return made.error();
  };
  EXPECT_EQ(error_with([](auto&) {}), "");
  EXPECT_THAT(error_with([](auto& t) { t.set_dims(0, 3); }), HasSubstr("'w'"));
  EXPECT_THAT(error_with([](auto& t) { t.set_dims(0, -2); }), HasSubstr("(-2, 1, 1)"));
  EXPECT_THAT(error_with([](auto& t) { t.set_dims(0, 1); }), HasSubstr("takes 4 bytes, but 8"));
  EXPECT_THAT(error_with([](auto& t) {
                for (int i = 0; i < 3; ++i) t.set_dims(i, std::int64_t{1} << 40);
              }),
              HasSubstr("'w'"));
  EXPECT_THAT(error_with([](auto& t) { t.set_raw_data("abc"); }),
              HasSubstr("but the file holds 3"));
  EXPECT_THAT(error_with([](auto& t) { t.set_data_type(17); }), HasSubstr("float8e4m3fn"));
  EXPECT_THAT(error_with([](auto& t) { t.set_data_type(onnx::TensorProto::STRING); }),
              HasSubstr("string"));
  EXPECT_THAT(error_with([](auto& t) { t.set_data_type(-5); }), HasSubstr("unknown"));
  Made sparse;
  sparse.graph().add_sparse_initializer()->mutable_values()->set_name("thin");
  sparse.node("Relu", {"x"}, "y");
  EXPECT_THAT(sparse.error(), HasSubstr("'thin' is sparse"));
}

TEST(ImportOnnx, ReadsDataBesideTheModelAndNowhereElse) {
  const TempFolder folder;
  fs::create_directory(folder.path() / "in");
  std::ofstream(folder.path() / "in" / "w.data", std::ios::binary)
      .write("\0\0\0\0\0\0\x80?\0\0\0@", 12);
  std::ofstream(folder.path() / "secret", std::ios::binary).write("\0\0\0\0\0\0\0\0\0\0\0\0", 12);
  fs::create_symlink(folder.path() / "secret", folder.path() / "in" / "link");
  const auto error_with = [&](const std::string& location, const std::string& offset,
                              const std::string& length) {
    Made made;
    onnx::TensorProto& tensor = made.floats("w", {2, 1, 1}, 0);
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    for (const auto& [key, value] :
         {std::pair{"location", location}, {"offset", offset}, {"length", length}}) {
      auto& entry = *tensor.add_external_data();
      entry.set_key(key);
      entry.set_value(value);
    }
    made.node("Mul", {"x", "w"}, "y");
    return made.error(folder.path() / "in");
  };
  EXPECT_EQ(error_with("w.data", "4", "8"), "");
  EXPECT_THAT(error_with("w.data", "8", "8"), HasSubstr("outside"));
  EXPECT_THAT(error_with("w.data", "4", "4"), HasSubstr("'w'"));
  EXPECT_THAT(error_with("w.data", "-4", "8"), HasSubstr("offset"));
  EXPECT_THAT(error_with("w.data", "4", "99999999999999999999"), HasSubstr("length"));
  EXPECT_THAT(error_with("w.data", "9223372036854775807", "8"), HasSubstr("outside"));
  EXPECT_THAT(error_with("../secret", "0", "8"), HasSubstr("beside the model"));
  EXPECT_THAT(error_with((folder.path() / "secret").string(), "0", "8"), HasSubstr("beside"));
  EXPECT_THAT(error_with("link", "0", "8"), HasSubstr("leads out"));
  EXPECT_THAT(error_with("gone", "0", "8"), HasSubstr("not there"));
  EXPECT_THAT(error_with(".", "0", "8"), HasSubstr("model"));
}

TEST(ImportOnnx, RefusesVersionsItDoesNotKnow) {
  Made made;
  made.node("Relu", {"x"}, "y");
  made.proto().mutable_opset_import(0)->set_version(6);
  EXPECT_THAT(made.error(), HasSubstr("opset 6 of ONNX, expected 7 to 22"));
  made.proto().mutable_opset_import(0)->set_version(17);
  made.proto().set_ir_version(1);
  EXPECT_THAT(made.error(), HasSubstr("IR version 1"));
}

TEST(ImportOnnx, OddShapesAndAxesAreRefused) {
  const auto set = [](onnx::NodeProto& node, const std::string& name,
                      const std::vector<std::int64_t>& values) {
    onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t value : values) attribute.add_ints(value);
  };
  Made axes;
  axes.floats("w", {2, 2}, 4);
  set(axes.node("Transpose", {"w"}, "t"), "perm", {0, 0});
  axes.node("Add", {"x", "t"}, "y");
  EXPECT_THAT(axes.error(), HasSubstr("names axis 0 twice"));
  Made empty;  // whose other extents no product holds
  empty.floats("w", {0, std::int64_t{1} << 40, std::int64_t{1} << 40}, 0);
  empty.node("Relu", {"x"}, "y");
  EXPECT_THAT(empty.error(), HasSubstr("(0, 1099511627776, 1099511627776)"));
  Made wide;
  wide.floats("w", {1, 2, 3, 3}, 18);
  set(wide.node("Conv", {"x", "w"}, "y"), "dilations", {1 << 20, 1});
  EXPECT_THAT(wide.error(), HasSubstr("window spans 2097153 pixels"));
  Made nothing;
  nothing.floats("e", {0}, 0);
  nothing.node("Range", {"e", "e", "e"}, "r");
  nothing.node("CastLike", {}, "c");
  nothing.node("Add", {"x", "r"}, "y");
  EXPECT_THAT(nothing.error(), testing::AllOf(HasSubstr("input 0 is no single number"),
                                              HasSubstr("input 0 is missing")));
}

TEST(ImportOnnx, ConstantsCannotGrowWithoutBound) {
  Made made;
  onnx::TensorProto& shape = *made.graph().add_initializer();
  shape.set_name("shape");
  shape.set_data_type(onnx::TensorProto::INT64);
  shape.add_dims(2);
  for (int i = 0; i < 2; ++i) shape.add_int64_data(std::int64_t{1} << 30);
  made.node("ConstantOfShape", {"shape"}, "large");
  made.node("Mul", {"x", "large"}, "y");
  EXPECT_THAT(made.error(), HasSubstr("at most 16777216"));
}

// ---- public data, where it is at hand -----------------------------------------------------------

fs::path shared() {
  return shared_dir();
}

TEST(ImportOnnx, NucleiBroadGivesItsOwnTestOutput) {
  const fs::path folder = shared() / "models/bioimageio/unet2d_nuclei_broad";
  if (!fs::exists(folder / "weights.onnx")) GTEST_SKIP() << "no " << folder;
  const NumpyArray input = read_numpy(folder / "test_input.npy");
  const NumpyArray output = read_numpy(folder / "test_output.npy");
  // Its package asks for this; the file itself has none of it.
  FloatTensor x = read_floats(input.tensor);
  double mean = 0, square = 0;
  for (const float value : x.values) mean += value, square += double{value} * value;
  mean /= static_cast<double>(x.values.size()), square /= static_cast<double>(x.values.size());
  for (float& value : x.values)
    value = static_cast<float>((value - mean) / (std::sqrt(square - mean * mean) + 1e-6));
  const auto dims = x.shape.dims();
  const StoredTensor scaled{"",
                            StoredTensor::Type::kF32,
                            {dims.begin(), dims.end()},
                            {},
                            std::as_bytes(std::span(x.values))};
  ModelFile model = open_model(folder / "weights.onnx");
  const auto inputs = network_inputs(model.config), outputs = network_outputs(model.config);
  const auto answers = run_network(model, {{inputs.at(0).name, scaled}}, open_cpu_device(2));
  const TensorView logits = answers.at(outputs.at(0).name).view();
  for (std::int64_t i = 0; i < logits.shape().elements(); ++i)  // the package's last step, too
    logits.as<float>()[i] = 1 / (1 + std::exp(-logits.as<float>()[i]));
  EXPECT_TRUE(difference(logits, output.tensor).largest <= 1e-5);
}

std::vector<std::byte> bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// One case of the suite. Its weights are inputs there; ours are constants.
struct SuiteCase {
  OnnxModel model;
  std::map<std::string, StoredTensor> inputs, outputs;

  explicit SuiteCase(const fs::path& folder) {
    model = read_onnx(bytes_of(folder / "model.onnx"), folder.string(), folder);
    const auto read = [&](const std::string& kind, const std::vector<OnnxValueInfo>& infos) {
      std::map<std::string, StoredTensor> tensors;
      for (std::size_t i = 0; i < infos.size(); ++i) {
        const fs::path path = folder / fmt::format("test_data_set_0/{}_{}.pb", kind, i);
        if (!fs::exists(path)) continue;
        tensors[infos[i].name] = read_onnx_tensor(bytes_of(path), path.string(), model.owners);
      }
      return tensors;
    };
    inputs = read("input", model.inputs);
    outputs = read("output", model.outputs);
  }

  // Makes constants of all inputs but the first `maps` that hold floats.
  void fix_inputs(std::size_t maps) {
    std::vector<OnnxValueInfo> kept;
    for (OnnxValueInfo& info : model.inputs) {
      StoredTensor tensor = inputs.at(info.name);
      if (tensor.is_float() && tensor.elements() > 0 && kept.size() < maps) {
        info.dims = tensor.shape, info.has_shape = true;
        kept.push_back(info);
      } else {
        tensor.name = info.name;
        model.initializers.push_back(tensor);
        inputs.erase(info.name);
      }
    }
    model.inputs = kept;
  }

  // Empty, or what is wrong with the answer; throws Error where it is not supported.
  std::string run() {
    Imported imported = import_onnx(model, {});
    ModelFile file{imported.config,
                   Weights::from_views(imported.tensors, model.file, imported.owners),
                   std::nullopt};
    std::map<std::string, NetworkAnswer> answers = run_network(file, inputs, open_cpu_device(1));
    for (const auto& [name, expected] : outputs) {
      if (!answers.contains(name)) continue;
      const auto [largest, scale] = difference(answers.at(name).view(), expected);
      if (!(largest <= 1e-3 * std::max(scale, 1e-2)))  // the suite's own is 1e-3 of each value
        return fmt::format("{} is {} apart of {}", name, largest, scale);
    }
    return "";
  }
  // The same of constants alone.
  std::string evaluate() {
    fix_inputs(0);
    OnnxConverter converter(model);
    converter.convert();
    require(converter.errors().empty(), "{}",
            converter.errors().empty() ? "" : converter.errors()[0]);
    for (const auto& [name, expected] : outputs) {
      const OnnxValue& value = converter.value(name);
      require(value.constant != nullptr, "no constant");
      const std::vector<double> values = value.constant->values(),
                                wanted = onnx_constant(expected)->values();
      if (value.constant->shape != expected.shape) return "its shape";
      for (std::size_t i = 0; i < values.size(); ++i)
        if (!(std::abs(values[i] - wanted[i]) <= 1e-5 * std::max(1.0, std::abs(wanted[i]))))
          return fmt::format("element {}: {} and {}", i, values[i], wanted[i]);
    }
    return "";
  }
};

TEST(ImportOnnx, PassesTheCasesOfOnnxItselfThatItSupports) {
  const fs::path archive = shared() / "data/onnx/node_tests_v1.19.1.tar.gz";
  if (!fs::exists(archive)) GTEST_SKIP() << "no " << archive;
  const TempFolder folder;
  const std::string command =
      fmt::format("tar xzf '{}' -C '{}'", archive.string(), folder.path().string());
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::vector<fs::path> cases;
  for (const auto& entry : fs::directory_iterator(folder.path() / "node")) cases.push_back(entry);
  std::ranges::sort(cases);
  std::size_t passed = 0;
  std::map<std::string, std::size_t> refused;
  for (const fs::path& path : cases) {
    std::string why, wrong;
    bool done = false;
    for (const std::size_t maps : {std::size_t{8}, std::size_t{1}, std::size_t{0}}) {
      try {
        SuiteCase suite(path);
        if (maps > 0) {
          suite.fix_inputs(maps);
          if (suite.model.inputs.empty()) continue;
          wrong = suite.run();
        } else {
          wrong = suite.evaluate();
        }
        done = true;
        break;
      } catch (const Error& error) {
        why += fmt::format("\n    {}", error.what());
      }
    }
    EXPECT_TRUE(wrong.empty()) << path.filename() << ": " << wrong;
    if (done && wrong.empty()) ++passed;
    if (!done) {
      ++refused[path.filename().string()];
      if (std::getenv("TESSERA_SHOW_REFUSED") != nullptr)
        std::printf("refused %s%s\n", path.filename().c_str(), why.c_str());
    }
  }
  std::printf("%zu of %zu cases pass, %zu are refused\n", passed, cases.size(), refused.size());
  // README.md gives these numbers.
  EXPECT_EQ(cases.size(), 335u);
  EXPECT_EQ(passed, 235u);
}

}  // namespace
}  // namespace tessera::test
