#include "models/train.h"

#include <new>

#include "kernels/error.h"
#include "models/training/train_run.h"

namespace tessera {

namespace {

// What the standard library throws for want of memory becomes an Error with a remedy; an event that
// is no function is nobody's.
template <class Options>
TrainResult trained(const char* network,
                    TrainResult (*train)(const Options&, const TrainEvents&,
                                         const std::shared_ptr<Ranks>&),
                    const Options& given_options, const TrainEvents& given) {
  const TrainEvents silent;
  TrainEvents events = given;
  if (!events.data) events.data = silent.data;
  if (!events.step) events.step = silent.step;
  if (!events.epoch) events.epoch = silent.epoch;
  if (!events.note) events.note = silent.note;
  if (!events.stop) events.stop = silent.stop;
  Options options = given_options;
  const std::shared_ptr<Ranks> ranks = ranks_of(options, network);
  if (!ranks->is_first()) {  // the first speaks for all; each may be stopped
    const std::function<bool()> stop = events.stop;
    events = silent;
    events.stop = stop;
  }
  try {
    return train(options, events, ranks);
  } catch (const std::bad_alloc&) {
    fail("out of memory; train with a smaller --batch or --tile, or free some");
  }
}

}  // namespace

Session TrainResult::open(const SessionOptions& options) const {
  require(!model.empty(), "no model was written: the run {}",
          end == End::kChecked ? "only looked at its data (check)"
                               : "was stopped while it looked at its data");
  return Session::open(model, options);
}

TrainResult train_unet(const UNetTrainOptions& options, const TrainEvents& events) {
  return trained("unet", train_on_images, options, events);
}

TrainResult train_han(const HanTrainOptions& options, const TrainEvents& events) {
  return trained("han", train_on_documents, options, events);
}

}  // namespace tessera
