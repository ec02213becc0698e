// A library of NVIDIA's as it lies on the machine, opened at run time: nothing links with it, and
// only `bench --against` and the tests that hold a GPU's answers against it ask for it.
#pragma once

#include <string>
#include <vector>

namespace tessera {

// Where to look, and what to tell who lacks it.
struct PeerLibraryName {
  std::string title;                    // "cuDNN"
  std::vector<std::string> files;       // the newest first
  std::string package;                  // of PyPI: "nvidia-cudnn-cu13"
  std::vector<std::string> needs = {};  // files that it opens itself by name, if they are there
};

class PeerLibrary {
 public:
  // Looks in `folders` ("A:B", as LD_LIBRARY_PATH has them), and if that is empty where the loader
  // does, in the CUDA toolkit, and in the packages of each Python that is installed. Throws Error,
  // with the package's name, where it is nowhere.
  PeerLibrary(const PeerLibraryName& name, const std::string& folders);

  const std::string& path() const { return path_; }
  // Throws Error where the library is too old to have it.
  template <class Function>
  void find(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }

 private:
  void* address(const char* symbol) const;

  std::string title_, path_;
  void* handle_ = nullptr;  // stays open: cuDNN's threads may outlive what used it
};

}  // namespace tessera
