#include "tools/program/segment_options.h"

#include <algorithm>
#include <cctype>

namespace tessera {

namespace fs = std::filesystem;

bool SegmentOptions::names_mask() const {
  const fs::path path(output);
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::error_code ignored;
  if (ending == kZarrEnding) return true;
  return !fs::is_directory(path, ignored) &&
         (ending == ".tif" || ending == ".tiff" || ending == ".btf" || ending == ".tf8");
}

Resume SegmentOptions::resume_choice() const {
  if (resume == "strict") return Resume::kStrict;
  return resume == "true" || resume == "1" || !windows.empty() ? Resume::kYes : Resume::kNo;
}

void SegmentOptions::add_to(CLI::App& command) {
  command
      .add_option(
          "inputs", inputs,
          "images (PNG, JPEG, BMP, PNM, TIFF stacks, OME-Zarr), folders, globs, or - for stdin")
      ->required();
  command
      .add_option(
          "-o,--output", output,
          "folder for the results; or NAME.tif or NAME.zarr (OME-Zarr), for the mask of one image "
          "of any size alone")
      ->type_name("FOLDER")
      ->capture_default_str();
  command.add_flag("--no-overlay", no_overlay, "no picture of the mask over the image");
  command.add_flag("--probabilities", outputs.probabilities,
                   "also NAME.probabilities.npy: (pages, height, width, outputs)");
  command.add_flag("--instances", outputs.instances,
                   "also NAME.instances.tif, and each object in the summary; of an image in "
                   "windows in a table");
  InstanceOptions& instances = outputs.instance_options;
  command.add_option("--connectivity", instances.connectivity, "of objects: 4 or 8")
      ->check(CLI::IsMember({4, 8}));
  command
      .add_option_function<std::string>(
          "--object-table",
          [this](const std::string& format) {
            outputs.object_format = format == "csv" ? ObjectFormat::kCsv : ObjectFormat::kGeoJson;
          },
          "of an image in windows: csv, NAME.instances.csv, or geojson, NAME.instances.geojsonl, a "
          "feature a line")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"csv", "geojson"}));
  min_area = command
                 .add_option("--min-area", instances.min_area,
                             "of objects, in pixels; else what the model was trained with")
                 ->type_name("N")
                 ->check(at_least(0));
  command.add_option("--level", choice.level, "of a pyramid (TIFF, OME-Zarr); 0 is the full size")
      ->type_name("N")
      ->check(at_least(0));
  command.add_option("--page", choice.page, "of a stack alone, counted from 0")
      ->type_name("N")
      ->check(at_least(0));
  command
      .add_option("--channel", choice.channel,
                  "of an OME-Zarr or TIFF alone, as grey, counted from 0")
      ->type_name("N")
      ->check(at_least(0));
  command.add_flag("--pyramid", outputs.pyramid,
                   "the mask of an image in windows has smaller levels (in an OME-Zarr always)");
  command
      .add_flag(
          "--resume", resume,
          "keep results of the same image, model and options; =strict compares images byte by "
          "byte")
      ->check(CLI::IsMember({"true", "strict", "false", "1", "0"}));
  command.add_option("--shard", shard, "do part I of N of the images")->type_name("I/N");
  command
      .add_option(
          "--windows", windows,
          "segment every image in windows, whatever its size, and of them part I of N: runs "
          "of all parts, at once or not, make one mask")
      ->type_name("I/N");
  command
      .add_option("--batch", batch,
                  "images of one size that run as one, at most; 0: as many as keep a GPU at work, "
                  "on a CPU one for each thread, or one at a time where they are large")
      ->type_name("N")
      ->check(at_least(0));
  model.add_to(command, true);
  report.add_to(command);
  command.footer(
      "Each image becomes NAME.mask.png (class ids) and NAME.overlay.png; a stack becomes TIFFs "
      "of\n"
      "as many pages. summary.json counts pixels (with --json it goes to stdout instead).\n"
      "A TIFF or OME-Zarr that is too large for memory becomes NAME.mask.tif in windows; what is "
      "finished "
      "stays,\n"
      "and --resume goes on.\n"
      "Examples:\n"
      "  tessera segment cells.png\n"
      "  tessera segment scans/ -m unet.safetensors -o masks --instances --resume\n"
      "  tessera segment 'scans/*/day1.tif' -o masks --max-memory 2G --shard 1/4\n"
      "  tessera segment slide.tif -o mask.tif --max-memory 1G --resume\n"
      "  tessera segment slide.zarr -o mask.zarr --level 1 --channel 0\n"
      "  cat cells.png | tessera segment - --json");
}

}  // namespace tessera
