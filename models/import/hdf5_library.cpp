#include "models/import/hdf5_library.h"

#include "engine/files/safetensors.h"
#include "kernels/error.h"

#ifdef TESSERA_HDF5_LIBRARY
#include <dlfcn.h>
#define H5_USE_110_API  // the functions of version 1.10, which later ones have, too
#include <hdf5.h>

#include <array>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "models/import/contents.h"
#endif

namespace tessera {

#ifndef TESSERA_HDF5_LIBRARY

void load_hdf5_library() {
  fail(
      "this build of Tessera reads no HDF5 files; apt-get install libhdf5-dev, and build it again");
}

nlohmann::json walk_hdf5(std::span<const std::byte>,
                         const std::function<void(std::span<const std::byte>)>&) {
  load_hdf5_library();
  return {};
}

#else

namespace {

// Macros of hdf5.h name versions of some functions: the name is that of the symbol behind them.
#define TESSERA_SYMBOL_TEXT(name) #name
#define TESSERA_SYMBOL(name) \
  decltype(&::name) name##_ = symbol<decltype(&::name)>(TESSERA_SYMBOL_TEXT(name))

class Hdf5Library {
 public:
  static const Hdf5Library& instance() {
    static const Hdf5Library library;
    return library;
  }

 private:
  void* handle_ = open();

  static void* open() {
    void* handle = ::dlopen(TESSERA_HDF5_LIBRARY, RTLD_LAZY | RTLD_LOCAL);
    require(
        handle != nullptr,
        "the HDF5 library {}, which reads Keras' files, is missing; apt-get install libhdf5-dev",
        TESSERA_HDF5_LIBRARY);
    return handle;
  }
  template <class Function>
  Function symbol(const char* name) const {
    void* found = ::dlsym(handle_, name);
    require(found != nullptr, "{} has no {}; apt-get install --reinstall libhdf5-dev",
            TESSERA_HDF5_LIBRARY, name);
    return reinterpret_cast<Function>(found);
  }

 public:
  TESSERA_SYMBOL(H5open);
  TESSERA_SYMBOL(H5dont_atexit);
  TESSERA_SYMBOL(H5Eset_auto2);
  TESSERA_SYMBOL(H5Pcreate);
  TESSERA_SYMBOL(H5Pset_fapl_core);
  TESSERA_SYMBOL(H5Pset_file_image_callbacks);
  TESSERA_SYMBOL(H5Pset_file_image);
  TESSERA_SYMBOL(H5Pget_external_count);
  TESSERA_SYMBOL(H5Pget_layout);
  TESSERA_SYMBOL(H5Pget_nfilters);
  TESSERA_SYMBOL(H5Pget_filter2);
  TESSERA_SYMBOL(H5Fopen);
  TESSERA_SYMBOL(H5Gopen2);
  TESSERA_SYMBOL(H5Gget_num_objs);
  TESSERA_SYMBOL(H5Lget_name_by_idx);
  TESSERA_SYMBOL(H5Lget_info);
  TESSERA_SYMBOL(H5Oopen);
  TESSERA_SYMBOL(H5Oclose);
  TESSERA_SYMBOL(H5Iget_type);
  TESSERA_SYMBOL(H5Aget_num_attrs);
  TESSERA_SYMBOL(H5Aopen_by_idx);
  TESSERA_SYMBOL(H5Aget_name);
  TESSERA_SYMBOL(H5Aget_type);
  TESSERA_SYMBOL(H5Aget_space);
  TESSERA_SYMBOL(H5Aread);
  TESSERA_SYMBOL(H5Aclose);
  TESSERA_SYMBOL(H5Dget_create_plist);
  TESSERA_SYMBOL(H5Dget_type);
  TESSERA_SYMBOL(H5Dget_space);
  TESSERA_SYMBOL(H5Dget_offset);
  TESSERA_SYMBOL(H5Dget_storage_size);
  TESSERA_SYMBOL(H5Dread);
  TESSERA_SYMBOL(H5Tget_class);
  TESSERA_SYMBOL(H5Tget_size);
  TESSERA_SYMBOL(H5Tget_order);
  TESSERA_SYMBOL(H5Tget_sign);
  TESSERA_SYMBOL(H5Tget_fields);
  TESSERA_SYMBOL(H5Tis_variable_str);
  TESSERA_SYMBOL(H5Sget_simple_extent_npoints);
  TESSERA_SYMBOL(H5Sget_simple_extent_ndims);
  TESSERA_SYMBOL(H5Sget_simple_extent_dims);
  const hid_t* file_access = symbol<const hid_t*>("H5P_CLS_FILE_ACCESS_ID_g");
};

// The process ends with the walk, so that identifiers of the library need no closing, but those of
// which there are many.
class Hdf5Walk {
 public:
  Hdf5Walk(std::span<const std::byte> bytes,
           const std::function<void(std::span<const std::byte>)>& copy)
      : bytes_(bytes), copy_(copy) {}

  nlohmann::json run() {
    h5_.H5open_();
    h5_.H5dont_atexit_();
    h5_.H5Eset_auto2_(H5E_DEFAULT, nullptr, nullptr);
    const hid_t access = checked(h5_.H5Pcreate_(*h5_.file_access), "the library");
    open_in_place(access);
    const hid_t file = checked(h5_.H5Fopen_("file", kReadOnly, access), "the superblock");
    visit_group(checked(h5_.H5Gopen2_(file, "/", H5P_DEFAULT), "the outermost group"), "", 0);
    return std::move(result_);
  }

 private:
  // H5F_ACC_RDONLY, which is a macro that calls the library by name.
  static constexpr unsigned kReadOnly = 0;
  static constexpr int kMostDepth = 32;
  static constexpr std::size_t kMostObjects = 200'000;
  static constexpr std::size_t kMostText = std::size_t{64} << 20;
  static constexpr std::size_t kMostName = 1024;

  template <class Status>
  static Status checked(Status status, const std::string& what) {
    require(status >= 0, "{} cannot be read: the file is damaged or cut off; save it again", what);
    return status;
  }

  // The file image of the core driver is the file's own memory.
  void open_in_place(hid_t access) {
    static void* image = nullptr;
    image = const_cast<std::byte*>(bytes_.data());
    H5FD_file_image_callbacks_t callbacks{};
    callbacks.image_malloc = [](std::size_t, H5FD_file_image_op_t, void*) { return image; };
    callbacks.image_memcpy = [](void* to, const void*, std::size_t, H5FD_file_image_op_t, void*) {
      return to;
    };
    callbacks.image_realloc = [](void*, std::size_t, H5FD_file_image_op_t, void*) -> void* {
      return nullptr;
    };
    callbacks.image_free = [](void*, H5FD_file_image_op_t, void*) -> herr_t { return 0; };
    constexpr std::size_t kIncrement = 1 << 16;
    checked(h5_.H5Pset_fapl_core_(access, kIncrement, false), "the library");
    checked(h5_.H5Pset_file_image_callbacks_(access, &callbacks), "the library");
    checked(h5_.H5Pset_file_image_(access, image, bytes_.size()), "the library");
  }

  void visit_group(hid_t group, const std::string& path, int depth) {
    const std::string shown = in_quotes("/" + path);
    require(depth <= kMostDepth, "groups nest deeper than {} at {}", kMostDepth, shown);
    nlohmann::json& attributes = result_["groups"][path] = nlohmann::json::object();
    const int count = h5_.H5Aget_num_attrs_(group);
    checked(count, shown);
    for (int i = 0; i < count; ++i) read_attribute(group, i, shown, attributes);

    hsize_t links = 0;
    checked(h5_.H5Gget_num_objs_(group, &links), shown);
    for (hsize_t i = 0; i < links; ++i) {
      require(++objects_ <= kMostObjects, "the file has more than {} objects", kMostObjects);
      std::string name(kMostName, '\0');
      const ssize_t length = h5_.H5Lget_name_by_idx_(group, ".", H5_INDEX_NAME, H5_ITER_INC, i,
                                                     name.data(), name.size(), H5P_DEFAULT);
      require(length >= 0 && static_cast<std::size_t>(length) < kMostName,
              "a name in {} cannot be read or has more than {} bytes", shown, kMostName - 1);
      name.resize(static_cast<std::size_t>(length));
      visit(group, name, path.empty() ? name : path + "/" + name, depth);
    }
  }

  void visit(hid_t group, const std::string& name, const std::string& path, int depth) {
    const std::string shown = in_quotes("/" + path);
    H5L_info_t link{};
    checked(h5_.H5Lget_info_(group, name.c_str(), &link, H5P_DEFAULT), shown);
    require(link.type == H5L_TYPE_HARD,
            "{} is {} link, which is not followed; save the model with its weights in one file",
            shown,
            link.type == H5L_TYPE_SOFT       ? "a soft"
            : link.type == H5L_TYPE_EXTERNAL ? "an external"
                                             : "a user's own");
    require(visited_.insert(link.u.address).second,
            "{} is a second link to an object; links may go in a cycle: save the model again",
            shown);
    const hid_t object = checked(h5_.H5Oopen_(group, name.c_str(), H5P_DEFAULT), shown);
    const H5I_type_t type = h5_.H5Iget_type_(object);
    if (type == H5I_GROUP) visit_group(object, path, depth + 1);
    if (type == H5I_DATASET) read_dataset(object, path);
    h5_.H5Oclose_(object);
  }

  void read_attribute(hid_t group, int index, const std::string& shown, nlohmann::json& into) {
    const hid_t attribute =
        checked(h5_.H5Aopen_by_idx_(group, ".", H5_INDEX_NAME, H5_ITER_INC,
                                    static_cast<hsize_t>(index), H5P_DEFAULT, H5P_DEFAULT),
                "an attribute of " + shown);
    std::string name(kMostName, '\0');
    const ssize_t length = h5_.H5Aget_name_(attribute, name.size(), name.data());
    require(length >= 0 && static_cast<std::size_t>(length) < kMostName,
            "the name of an attribute of {} cannot be read or has more than {} bytes", shown,
            kMostName - 1);
    name.resize(static_cast<std::size_t>(length));
    const hid_t type = checked(h5_.H5Aget_type_(attribute), name);
    if (h5_.H5Tget_class_(type) == H5T_STRING) {
      const hid_t space = checked(h5_.H5Aget_space_(attribute), name);
      const hssize_t count = checked(h5_.H5Sget_simple_extent_npoints_(space), name);
      const bool variable = h5_.H5Tis_variable_str_(type) > 0;
      const std::size_t size = variable ? sizeof(char*) : h5_.H5Tget_size_(type);
      require(size > 0 && static_cast<std::size_t>(count) <= kMostText / size,
              "the attribute {} of {} has {} texts of {} bytes, at most {} MB are read",
              in_quotes(name), shown, count, size, kMostText >> 20);
      std::vector<std::string> texts;
      if (count == 0) {  // The library takes no null pointer, not even for nothing.
      } else if (variable) {
        std::vector<const char*> pointers(static_cast<std::size_t>(count));
        checked(h5_.H5Aread_(attribute, type, pointers.data()), name);
        for (const char* text : pointers) texts.emplace_back(text == nullptr ? "" : text);
      } else {
        std::vector<char> buffer(size * static_cast<std::size_t>(count));
        checked(h5_.H5Aread_(attribute, type, buffer.data()), name);
        for (std::size_t at = 0; at < buffer.size(); at += size) {
          const std::string_view text(&buffer[at], size);
          texts.emplace_back(text.substr(0, std::min(text.find('\0'), size)));
        }
      }
      for (const std::string& text : texts) text_ += text.size();
      require(text_ <= kMostText, "the attributes have more than {} MB of text", kMostText >> 20);
      const bool is_scalar = h5_.H5Sget_simple_extent_ndims_(space) == 0;
      if (is_scalar && texts.size() == 1) into[name] = texts[0];
      if (!is_scalar) into[name] = texts;
    }
    h5_.H5Aclose_(attribute);
  }

  // Throws where the type is big-endian; nothing for what is no number of ours.
  std::optional<StoredTensor::Type> type_of(hid_t type, const std::string& shown) const {
    const H5T_class_t kind = h5_.H5Tget_class_(type);
    const std::size_t size = h5_.H5Tget_size_(type);
    if (kind != H5T_INTEGER && kind != H5T_FLOAT) return std::nullopt;
    require(size == 1 || h5_.H5Tget_order_(type) == H5T_ORDER_LE,
            "the dataset {} is big-endian; save the model on a little-endian machine", shown);
    if (kind == H5T_INTEGER) {
      const bool is_signed = h5_.H5Tget_sign_(type) == H5T_SGN_2;
      if (!is_signed) return size == 1 ? std::optional(StoredTensor::Type::kU8) : std::nullopt;
      if (size == 1) return StoredTensor::Type::kI8;
      if (size == 2) return StoredTensor::Type::kI16;
      if (size == 4) return StoredTensor::Type::kI32;
      if (size == 8) return StoredTensor::Type::kI64;
      return std::nullopt;
    }
    std::array<std::size_t, 5> fields{};  // sign, exponent and its bits, mantissa and its bits
    checked(h5_.H5Tget_fields_(type, &fields[0], &fields[1], &fields[2], &fields[3], &fields[4]),
            shown);
    using Fields = std::array<std::size_t, 5>;
    if (size == 2 && fields == Fields{15, 10, 5, 0, 10}) return StoredTensor::Type::kF16;
    if (size == 2 && fields == Fields{15, 7, 8, 0, 7}) return StoredTensor::Type::kBF16;
    if (size == 4 && fields == Fields{31, 23, 8, 0, 23}) return StoredTensor::Type::kF32;
    if (size == 8 && fields == Fields{63, 52, 11, 0, 52}) return StoredTensor::Type::kF64;
    return std::nullopt;
  }

  void read_dataset(hid_t dataset, const std::string& path) {
    const std::string shown = in_quotes("/" + path);
    const hid_t create = checked(h5_.H5Dget_create_plist_(dataset), shown);
    const H5D_layout_t layout = h5_.H5Pget_layout_(create);
    require(layout != H5D_VIRTUAL,
            "the dataset {} is virtual, made of other files; save the model with its weights",
            shown);
    require(h5_.H5Pget_external_count_(create) == 0,
            "the data of {} lie in another file, which is not opened; save the model with its "
            "weights in one file",
            shown);
    const int filters = checked(h5_.H5Pget_nfilters_(create), shown);
    for (int i = 0; i < filters; ++i) {
      unsigned flags = 0, config = 0;
      std::size_t values = 0;
      const H5Z_filter_t filter = h5_.H5Pget_filter2_(create, static_cast<unsigned>(i), &flags,
                                                      &values, nullptr, 0, nullptr, &config);
      require(filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE ||
                  filter == H5Z_FILTER_FLETCHER32,
              "the dataset {} goes through the filter {}; gzip and shuffle are read: save the "
              "model again without it",
              shown, static_cast<int>(filter));
    }
    const hid_t type = checked(h5_.H5Dget_type_(dataset), shown);
    const std::optional<StoredTensor::Type> stored = type_of(type, shown);
    if (!stored) {
      result_["notes"].push_back(fmt::format("the dataset {} holds no numbers", shown));
      return;
    }
    const hid_t space = checked(h5_.H5Dget_space_(dataset), shown);
    const int rank = checked(h5_.H5Sget_simple_extent_ndims_(space), shown);
    require(rank <= H5S_MAX_RANK, "the dataset {} has {} axes", shown, rank);
    std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
    if (rank > 0) checked(h5_.H5Sget_simple_extent_dims_(space, extents.data(), nullptr), shown);
    std::uint64_t bytes = size_of(*stored);
    std::vector<std::int64_t> shape;
    for (const hsize_t extent : extents) {
      constexpr hsize_t kMostExtent = hsize_t{1} << 40;
      require(extent <= kMostExtent && !__builtin_mul_overflow(bytes, extent, &bytes),
              "the dataset {} has the extent {}, more than any memory holds", shown, extent);
      shape.push_back(static_cast<std::int64_t>(extent));
    }
    // Of a null space, and of what was never written, the file has no bytes.
    const bool is_empty = h5_.H5Sget_simple_extent_npoints_(space) == 0;
    const haddr_t offset = layout == H5D_CONTIGUOUS && !is_empty ? h5_.H5Dget_offset_(dataset) : 0;
    const bool copied = layout != H5D_CONTIGUOUS;
    require(is_empty || offset != HADDR_UNDEF,
            "the dataset {} was never written; save the model "
            "again",
            shown);
    std::uint64_t place = offset;
    if (copied && !is_empty) {
      // No stream of deflate grows by more than this when it is read.
      constexpr std::uint64_t kMostGrowth = 1040;
      const hsize_t held = layout == H5D_COMPACT ? bytes : h5_.H5Dget_storage_size_(dataset);
      require(bytes / kMostGrowth <= held && held <= bytes_.size(),
              "the dataset {} has {} bytes of which the file holds {}; save the model again", shown,
              bytes, held);
      std::vector<std::byte> values(bytes);
      checked(h5_.H5Dread_(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), shown);
      place = copied_;
      copy_(values);
      copied_ += bytes;
    }
    result_["tensors"].push_back({{"name", path},
                                  {"type", static_cast<int>(*stored)},
                                  {"shape", shape},
                                  {"copied", copied},
                                  {"offset", place},
                                  {"bytes", is_empty ? 0 : bytes}});
  }

  const Hdf5Library& h5_ = Hdf5Library::instance();
  std::span<const std::byte> bytes_;
  const std::function<void(std::span<const std::byte>)>& copy_;
  std::set<haddr_t> visited_;
  std::size_t objects_ = 0, text_ = 0;
  std::uint64_t copied_ = 0;
  nlohmann::json result_ = {{"tensors", nlohmann::json::array()},
                            {"groups", nlohmann::json::object()},
                            {"notes", nlohmann::json::array()}};
};

}  // namespace

void load_hdf5_library() {
  Hdf5Library::instance();
}

nlohmann::json walk_hdf5(std::span<const std::byte> bytes,
                         const std::function<void(std::span<const std::byte>)>& copy) {
  return Hdf5Walk(bytes, copy).run();
}

#endif

}  // namespace tessera
