#include "tools/peers/library.h"

#include <dlfcn.h>
#include <fmt/ranges.h>
#include <glob.h>

#include <cstdlib>
#include <filesystem>

#include "kernels/error.h"

namespace tessera {

namespace {

std::vector<std::string> split_folders(const std::string& folders) {
  std::vector<std::string> list;
  for (std::size_t begin = 0; begin < folders.size();) {
    const std::size_t end = std::min(folders.find(':', begin), folders.size());
    if (end > begin) list.push_back(folders.substr(begin, end - begin));
    begin = end + 1;
  }
  return list;
}

std::vector<std::string> folders_like(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> list;
  if (::glob(pattern.c_str(), GLOB_ONLYDIR, nullptr, &found) == 0)
    list.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return list;
}

// The toolkit's folders, and those of the wheels that PyTorch brings along.
std::vector<std::string> usual_folders() {
  std::vector<std::string> list{"/usr/local/cuda/lib64", "/usr/local/cuda/lib"};
  std::vector<std::string> pythons{"/usr", "/usr/local", "/opt/conda", "/opt/venv"};
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const char* folder = std::getenv(variable)) pythons.insert(pythons.begin(), folder);
  if (const char* home = std::getenv("HOME")) pythons.push_back(std::string(home) + "/.local");
  for (const std::string& python : pythons)
    for (const char* packages : {"site-packages", "dist-packages"})
      for (std::string& folder :
           folders_like(fmt::format("{}/lib/python3*/{}/nvidia/*/lib", python, packages)))
        list.push_back(std::move(folder));
  return list;
}

}  // namespace

PeerLibrary::PeerLibrary(const PeerLibraryName& name, const std::string& folders)
    : title_(name.title) {
  const std::vector<std::string> named = split_folders(folders);
  const std::vector<std::string> places = named.empty() ? usual_folders() : named;
  std::string why;  // the last file that is there and cannot be opened
  const auto open = [&](const std::string& path) {
    handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr && path.find('/') != std::string::npos) why = ::dlerror();
    if (handle_ != nullptr) path_ = path;
    return handle_ != nullptr;
  };
  const auto open_in = [&](const std::string& folder) {
    for (const std::string& file : name.files) {
      const std::filesystem::path path = std::filesystem::path(folder) / file;
      std::error_code none;
      if (!std::filesystem::exists(path, none)) continue;
      // What it opens by name is found if it is open already.
      for (const std::string& need : name.needs)
        for (const std::string& place : places)
          if (::dlopen((place + "/" + need).c_str(), RTLD_LAZY | RTLD_GLOBAL) != nullptr) break;
      if (open(path)) return true;
    }
    return false;
  };
  if (named.empty())
    for (const std::string& file : name.files)
      if (open(file)) return;
  for (const std::string& place : places)
    if (open_in(place)) return;
  if (!why.empty()) fail("{} cannot be opened: {}", title_, why);
  fail(
      "{} ({}) is not on this machine, neither {}; pip install {}, or name its folder with "
      "--libraries",
      title_, fmt::join(name.files, " or "),
      named.empty() ? "where the loader looks, nor in /usr/local/cuda, nor in a Python's packages"
                    : fmt::format("in {}", folders),
      name.package);
}

void* PeerLibrary::address(const char* symbol) const {
  void* found = ::dlsym(handle_, symbol);
  require(found != nullptr, "{} ({}) has no {}: it is too old; cuDNN 9 or cuBLAS 12 is needed",
          title_, path_, symbol);
  return found;
}

}  // namespace tessera
