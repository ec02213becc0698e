// What train_unet and train_han (models/train.h) share, and their parts that no memory guards yet.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "models/data_report.h"
#include "models/train.h"
#include "models/training/training.h"

namespace tessera {

// The last name of a path: a model is given away, and folders are nobody's business.
std::string last_name(std::string_view path);

// Counts beyond are mistakes; a product of two is a number yet.
inline constexpr double kMostCounted = (std::int64_t{1} << 31) - 1;

// Each throws OptionError that names the option, "--epochs".
void require_whole(std::string_view option, std::int64_t value, std::int64_t least,
                   double most = kMostCounted);
void require_number(std::string_view option, double value, double least = 0,
                    double most = std::numeric_limits<double>::max());
void require_choice(std::string_view option, std::string_view value,
                    std::initializer_list<std::string_view> choices);
// `score`: what `best` takes besides loss and accuracy.
void check_options(const TrainOptions& options, std::string_view score);
// Of options that need a validation where there is none.
void require_validation(const TrainOptions& options, bool there_is);

int threads_of(const TrainOptions& options);
// The ranks that the options name, which all train such a network ("unet"). Where the options leave
// the number of threads open, it becomes this rank's share of the processors.
std::shared_ptr<Ranks> ranks_of(TrainOptions& options, const std::string& network);
// Throws the same Error on every rank unless all give the same line.
void require_alike(Ranks& ranks, const std::string& what);

// Notes what the data pass found; throws the Error that lists its problems, if there are any.
void settle(const DataReport& found, const TrainEvents& events);

// Trains. `data`: what the model's provenance names as what it was made from.
TrainResult run_training(TrainingTask& task, const TrainOptions& options,
                         const std::vector<std::string>& data, const TrainEvents& events,
                         const std::shared_ptr<Ranks>& ranks);

TrainResult train_on_images(const UNetTrainOptions& options, const TrainEvents& events,
                            const std::shared_ptr<Ranks>& ranks);
TrainResult train_on_documents(const HanTrainOptions& options, const TrainEvents& events,
                               const std::shared_ptr<Ranks>& ranks);

}  // namespace tessera
