"""Recipe for Conan 2: `conan create tools/packaging/conan` compiles the tree with Debian's own libraries."""

from pathlib import Path

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load
from conan.tools.system.package_manager import Apt


class Tessera(ConanFile):
    name = "tessera"
    license = "Apache-2.0"
    description = "Segments images with UNet and classifies documents with HAN"
    settings = "os", "compiler", "build_type", "arch"
    package_type = "shared-library"

    def set_version(self):
        text = load(self, Path(self.recipe_folder) / "../../../CMakeLists.txt")
        self.version = text.split("project(Tessera VERSION ")[1].split()[0]

    def export_sources(self):
        tree = Path(self.recipe_folder) / "../../.."
        for folder in ("engine", "kernels", "models", "third_party", "tools"):
            copy(self, f"{folder}/*", tree, self.export_sources_folder, excludes=("*/__pycache__/*",))
        for file in ("CMakeLists.txt", "LICENSE"):
            copy(self, file, tree, self.export_sources_folder)

    def system_requirements(self):
        Apt(self).install(["libfmt-dev", "nlohmann-json3-dev", "libcli11-dev", "libhwy-dev", "libstb-dev", "libtiff-dev",
                           "libpng-dev", "libjpeg62-turbo-dev", "libexpat1-dev", "zlib1g-dev", "libbz2-dev", "liblzma-dev",
                           "libzstd-dev", "libblosc-dev", "libonnx-dev", "libprotobuf-dev", "protobuf-compiler", "libhdf5-dev",
                           "libutf8proc-dev", "libxxhash-dev", "libyaml-cpp-dev", "nettle-dev"])

    def layout(self):
        cmake_layout(self)

    def generate(self):
        tools = CMakeToolchain(self)
        tools.cache_variables |= {"TESSERA_CUDA": "OFF", "TESSERA_UNITY": "ON", "TESSERA_TESTS": "OFF"}
        tools.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        # The installed CMake package is the one to find.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/Tessera"]
