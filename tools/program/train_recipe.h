// Where the options of a training come from besides the command line, and what of it a model keeps.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tessera {

// {"network": "unet", "about": "...", "options": {"depth": 4, ...}}: options of the command line
// without their dashes. What the command line or the environment says wins.
// Throws UsageError.
void apply_recipe(CLI::App& command, const std::string& path);

// The attributes of a published network for the options of `command` that nobody gave.
void apply_network(CLI::App& command, const nlohmann::json& network);

// The last name of a path: a model is given away, and folders are nobody's business.
std::string last_name(std::string_view path);

// The command as it was typed, without what does not decide the result: equal results are equal
// files, whether they came in one run or several, on one thread or many, shown or not.
std::string command_line();

}  // namespace tessera
