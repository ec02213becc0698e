#include "engine/graph/graph_file.h"

#include <map>

#include "engine/files/json_fields.h"
#include "engine/graph/fields.h"

namespace tessera {

namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr int kMaxChannels = 1 << 20;

std::string in_quotes(const std::string& name) {
  return JsonFields::shown(json(name));
}

void require_name(const std::string& name, const std::string& where) {
  require(!name.empty() && name.size() <= kMaxNameBytes,
          "{}: a name has 1 to {} bytes, this one {}; choose another", where, kMaxNameBytes,
          name.size());
}

const json& list_of(JsonFields& fields, const char* key) {
  const json& list = fields.take_required(key);
  require(list.is_array(), "graph.{}: expected a list, found {}", key, JsonFields::shown(list));
  return list;
}

// Reads a network; holds the names that exist so far.
class Reader {
 public:
  NetworkGraph read(const json& object) {
    JsonFields fields(object, "graph");
    int version = 0;
    fields.read("version", version, kVersion, kVersion);
    for (const json& input : list_of(fields, "inputs")) add_input(input);
    const json& nodes = list_of(fields, "nodes");
    require(nodes.size() <= kMaxNodes, "graph.nodes: {} nodes, at most {} are supported",
            nodes.size(), kMaxNodes);
    for (const json& node : nodes) add_node(node);
    for (const json& output : list_of(fields, "outputs")) add_output(output);
    fields.refuse_unknown();
    require(!network_.graph.outputs.empty(),
            "graph.outputs: there are none; name the value that is the answer");
    return std::move(network_);
  }

 private:
  void add_name(const std::string& name, ValueId value) {
    require(values_.emplace(name, value).second,
            "graph: two values are called {}; give each input and node a name of its own",
            in_quotes(name));
  }

  ValueId find(const std::string& name, const std::string& where) const {
    const auto found = values_.find(name);
    require(found != values_.end(),
            "{} reads {}, which no input and no node before it makes; put what makes it first",
            where, in_quotes(name));
    return found->second;
  }

  void add_input(const json& object) {
    JsonFields fields(object, fmt::format("graph.inputs[{}]", network_.channels.size()));
    std::string name;
    int channels = 0;
    fields.read("name", name);
    fields.read("channels", channels, 1, kMaxChannels);
    fields.refuse_unknown();
    require_name(name, "graph.inputs");
    network_.channels.push_back(channels);
    add_name(name, network_.graph.add_input(name));
  }

  void add_node(const json& object) {
    Graph& graph = network_.graph;
    std::string where = fmt::format("graph.nodes[{}]", graph.nodes.size());
    std::string name, op;
    std::vector<std::string> from;
    {
      JsonFields fields(object, where);
      fields.read("name", name);
      require_name(name, where);
    }
    where = "node " + in_quotes(name);
    JsonFields fields(object, where);
    fields.take("name");
    fields.read("op", op);
    fields.read("in", from);
    std::map<std::string, std::string> weights;
    if (const json* given = fields.take("weights")) weights = read_weights(*given, where);
    Op made;
    try {
      made = read_op(op, fields);
      fields.refuse_unknown();
    } catch (const Error& error) {
      const std::string_view text = error.what();
      if (text.starts_with(where)) throw;
      fail("{}: {}", where, text);
    }
    std::vector<ValueId> inputs;
    for (const std::string& value : from) inputs.push_back(find(value, where));
    graph.add(name, std::move(made), std::move(inputs));
    graph.nodes.back().weight_names = std::move(weights);
    for (const ValueId value : graph.nodes.back().outputs) add_name(graph.values[value], value);
  }

  static std::map<std::string, std::string> read_weights(const json& object,
                                                         const std::string& where) {
    JsonFields fields(object, where + ".weights");
    std::map<std::string, std::string> names;
    for (const auto& member : object.items()) {
      fields.read(member.key().c_str(), names[member.key()]);
      require_name(names[member.key()], where + ".weights");
    }
    return names;
  }

  void add_output(const json& object) {
    const std::string where = fmt::format("graph.outputs[{}]", network_.outputs.size());
    JsonFields fields(object, where);
    NetworkOutput output;
    std::string value;
    fields.read("name", output.name);
    require_name(output.name, where);
    fields.read("value", value);
    fields.take_required("kind");
    fields.read("kind", output.kind);
    if (output.kind == NetworkOutput::Kind::kLogits) fields.read("activation", output.activation);
    fields.refuse_unknown();
    const auto found = values_.find(value);
    require(found != values_.end(), "{} gives {}, which nothing makes; name a node", where,
            in_quotes(value));
    for (const NetworkOutput& other : network_.outputs) {
      require(other.name != output.name, "{}: two outputs are called {}; rename one", where,
              in_quotes(output.name));
    }
    network_.graph.outputs.push_back(found->second);
    network_.outputs.push_back(std::move(output));
  }

  NetworkGraph network_;
  std::map<std::string, ValueId, std::less<>> values_;
};

// Whether a pass has folded other nodes into this one.
struct IsFused {
  bool operator()(const Conv& op) const {
    return op.relu || op.norm != Conv::Norm::kNone || op.concat || op.pool;
  }
  bool operator()(const ConvTranspose& op) const { return op.relu; }
  bool operator()(const Attention& op) const { return op.dense.has_value(); }
  bool operator()(const BiRnn& op) const { return op.embedding.has_value(); }
  template <class Op>
  bool operator()(const Op&) const {
    return false;
  }
};

// Counts what lies in graph.nodes, and how deep everything nests.
class Limits : public nlohmann::json_sax<json> {
 public:
  explicit Limits(int max_depth) : max_depth_(max_depth) {}

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(std::int64_t) override { return value(); }
  bool number_unsigned(std::uint64_t) override { return value(); }
  bool number_float(double, const std::string&) override { return value(); }
  bool string(std::string&) override { return value(); }
  bool binary(json::binary_t&) override { return value(); }
  bool start_object(std::size_t) override { return open(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (depth_ == 1) in_graph_ = name == "graph";
    if (depth_ == 2) in_nodes_ = in_graph_ && name == "nodes";
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception&) override {
    return false;
  }

 private:
  bool value() {
    if (depth_ == 3 && in_nodes_) ++nodes_;
    require(nodes_ <= kMaxNodes, "graph.nodes: more than {} nodes, which is the most supported",
            kMaxNodes);
    return true;
  }
  bool open() {
    value();
    require(++depth_ <= max_depth_, "nested deeper than {} levels", max_depth_);
    return true;
  }
  bool close() {
    --depth_;
    if (depth_ < 2) in_nodes_ = false;
    return true;
  }

  int max_depth_;
  int depth_ = 0;
  bool in_graph_ = false, in_nodes_ = false;
  std::size_t nodes_ = 0;
};

}  // namespace

json to_json(const NetworkGraph& network) {
  const Graph& graph = network.graph;
  json inputs = json::array(), nodes = json::array(), outputs = json::array();
  for (std::size_t i = 0; i < graph.inputs.size(); ++i)
    inputs.push_back(
        {{"name", graph.values[graph.inputs[i]]}, {"channels", network.channels.at(i)}});
  for (const Node& node : graph.nodes) {
    require(!std::visit(IsFused(), node.op),
            "node {} holds what a pass has fused; write the graph before it is optimised",
            in_quotes(node.name));
    json object = attributes_of(node.op);
    object["name"] = node.name;
    object["op"] = std::visit([](const auto& op) { return op.kName; }, node.op);
    for (const ValueId value : node.inputs) object["in"].push_back(graph.values[value]);
    if (!node.weight_names.empty()) object["weights"] = node.weight_names;
    nodes.push_back(std::move(object));
  }
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    const NetworkOutput& output = network.outputs.at(i);
    json object = {{"name", output.name},
                   {"value", graph.values[graph.outputs[i]]},
                   {"kind", names_of(output.kind)[static_cast<std::size_t>(output.kind)]}};
    if (output.kind == NetworkOutput::Kind::kLogits)
      object["activation"] =
          names_of(output.activation)[static_cast<std::size_t>(output.activation)];
    outputs.push_back(std::move(object));
  }
  return {{"version", kVersion},
          {"inputs", std::move(inputs)},
          {"nodes", std::move(nodes)},
          {"outputs", std::move(outputs)}};
}

NetworkGraph network_from_json(const json& object) {
  return Reader().read(object);
}

void check_json_limits(std::string_view text, int max_depth) {
  Limits limits(max_depth);
  json::sax_parse(text, &limits);
}

}  // namespace tessera
