// The mask of an image that need not fit into memory: its pixels are read, segmented and written a
// window at a time, and the bytes are those of the whole. Finished windows wait in a WindowFolder
// until all are there; then one tiled TIFF or OME-Zarr is put together from them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "models/image/pixel_source.h"
#include "tools/program/program.h"
#include "tools/program/segment_files.h"
#include "tools/program/window_folder.h"

namespace tessera {

struct WindowJob {
  std::filesystem::path base;  // of the results' names
  nlohmann::json made_from;    // what decides the bytes
  Shard share;                 // of the windows, that this process makes
  bool joins = false;          // others make the rest at the same time
  bool resumes = false;        // keeps windows of an earlier run
};

class WindowedFiles : public ResultFiles {
 public:
  // Decides how the image is cut, or takes over what was decided. `session` must outlive this.
  // Throws Error where the job does not fit what is there.
  WindowedFiles(ImageReader reader, Session& session, const SegmentOutputs& outputs, WindowJob job);

  // "20000 x 20000 in 12 windows of up to 8192 x 5120 .."
  std::string explanation() const;
  // What became of an earlier run's windows, worth a note; mostly empty.
  const std::string& note() const { return note_; }

  // Makes this process's windows, as far as they are not there. `progress` hears which part of all
  // windows is done, first that of earlier runs.
  void make(const std::function<void(double done)>& progress);
  std::int64_t windows() const { return rows_ * columns_; }
  std::int64_t finished() const;  // by whichever process
  // Puts the mask together, once all windows are there.
  void assemble();
  // Whether another process has done that meanwhile.
  bool made_elsewhere() const;

  const MaskStatistics& statistics() const { return statistics_; }
  nlohmann::json summary() const;

  std::vector<std::filesystem::path> paths() const override;
  void commit() override;
  void clean_up() override { folder_.remove(); }

 private:
  void begin();
  SegmentationWindow window(std::int64_t index) const;
  bool is_there(std::int64_t index) const;
  void copy(std::int64_t row);  // of windows, into the mask
  void find_objects();          // in the finished mask
  template <class T>
  void write_labels(InstanceFinder& finder);
  // Calls see(class ids) for each row of the finished mask.
  void for_each_row(InstanceFinder& finder,
                    const std::function<void(const std::uint8_t* ids)>& see) const;
  // A TIFF or the store of an OME-Zarr, as the name ends.
  std::unique_ptr<TiledWriter> begin_file(const std::filesystem::path& path,
                                          const Image::Pixels& like, bool has_classes) const;

  Session& session_;
  SegmentOutputs outputs_;
  WindowJob job_;
  PixelSource source_;
  WindowFolder folder_;
  WindowGrid grid_;
  std::optional<PixelScale> scale_;
  std::int64_t rows_ = 0, columns_ = 0;  // of windows
  std::int64_t made_ = 0;                // by this process
  std::string note_;
  std::unique_ptr<TiledWriter> mask_, labels_;
  std::optional<ObjectTable> table_;
  MaskStatistics statistics_;
};

}  // namespace tessera
