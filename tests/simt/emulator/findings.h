// What the emulator found wrong, as text with file:line.
#pragma once

#include <cstdint>
#include <string>

namespace simt::machine {

// Keeps the finding unless one with the same key was kept since take_findings().
void report(const std::string& key, const std::string& text);
// Throws what was found, where Config::throws says so.
void throw_findings();

// "softmax.cu:42": the call before the return address `pc`, outside of the emulator's headers.
std::string line_of(const void* pc);
// The function that starts at `entry`, without its arguments.
std::string function_name(const void* entry);

// Places within the executable as 32 bits, to keep shadow cells small.
std::uint32_t compact(const void* pc);
const void* expand(std::uint32_t pc);

}  // namespace simt::machine
