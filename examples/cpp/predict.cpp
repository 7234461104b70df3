// Score images with an exported model. Needs OpenVINO; no ganomaly, no Python.
//
// predict MODEL.xml                                 print the metadata of the model
// predict MODEL.xml [--threshold T] IMAGE.pgm...    print path, score, p-value and verdict, separated by tabs
//
// Images are binary PGM (gray) or PPM (colour), of 8 or 16 bits.

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/runtime/core.hpp>
#include <openvino/runtime/properties.hpp>

namespace {

constexpr std::size_t kLargestSide = 1 << 16;

// The next number of the header; white space and comments may come before it.
std::size_t read_number(std::istream& file) {
    while (std::isspace(file.peek()) || file.peek() == '#') {
        if (file.get() == '#') {
            file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
        }
    }
    std::size_t number = 0;
    if (!(file >> number)) {
        throw std::runtime_error("its header is damaged");
    }
    return number;
}

// Pixels as the model takes them: u8 or u16 [1, H, W, C].
ov::Tensor read_image(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw std::runtime_error("it cannot be opened");
    }
    std::string magic(2, '\0');
    file.read(magic.data(), 2);
    if (magic != "P5" && magic != "P6") {
        throw std::runtime_error("it is neither binary PGM nor PPM");
    }
    const std::size_t channels = magic == "P5" ? 1 : 3;
    const std::size_t width = read_number(file);
    const std::size_t height = read_number(file);
    const std::size_t max_value = read_number(file);
    if (width == 0 || height == 0 || width > kLargestSide || height > kLargestSide) {
        throw std::runtime_error("its size cannot be right");
    }
    if (max_value < 255 || max_value > 65535) {
        throw std::runtime_error("it has neither 8 nor 16 bits");
    }
    file.get();  // the single white space after the header

    const bool has_16_bits = max_value > 255;
    ov::Tensor image(has_16_bits ? ov::element::u16 : ov::element::u8, {1, height, width, channels});
    auto* bytes = static_cast<std::uint8_t*>(image.data());
    file.read(reinterpret_cast<char*>(bytes), static_cast<std::streamsize>(image.get_byte_size()));
    if (static_cast<std::size_t>(file.gcount()) != image.get_byte_size()) {
        throw std::runtime_error("it ends too early");
    }
    if (has_16_bits) {  // the file has the high byte first
        auto* samples = image.data<std::uint16_t>();
        for (std::size_t i = 0; i < image.get_size(); ++i) {
            samples[i] = static_cast<std::uint16_t>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
        }
    }
    return image;
}

void check_fits(const ov::Tensor& image, const ov::Output<const ov::Node>& input) {
    const auto channels = image.get_shape()[3];
    const auto expected = static_cast<std::size_t>(input.get_partial_shape()[3].get_length());
    if (channels != expected || image.get_element_type() != input.get_element_type()) {
        std::ostringstream message;
        message << "it has " << channels << " channels of " << image.get_element_type() << ", but the model takes "
                << expected << " of " << input.get_element_type();
        throw std::runtime_error(message.str());
    }
}

int run(const std::string& model_path, std::optional<float> threshold, const std::vector<std::string>& images) {
    ov::Core core;
    const auto model = core.read_model(model_path);
    if (images.empty()) {
        for (const std::string key : {"format", "format_version", "model", "provenance"}) {
            if (model->has_rt_info("ganomaly", key)) {
                std::cout << key << ": " << model->get_rt_info<std::string>("ganomaly", key) << '\n';
            }
        }
        return 0;
    }
    // without this hint OpenVINO computes in 16 bits where the processor can, and scores differ between machines
    auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = compiled.create_infer_request();
    int status = 0;
    for (const auto& path : images) {
        ov::Tensor image;
        try {
            image = read_image(path);
            check_fits(image, compiled.input("image"));
        } catch (const std::exception& error) {
            std::cerr << path << ": " << error.what() << '\n';
            status = 3;
            continue;
        }
        request.set_tensor("image", image);
        request.infer();
        const float score = request.get_tensor("score").data<float>()[0];
        const float p_value = request.get_tensor("p_value").data<float>()[0];
        const bool is_anomaly =
            threshold ? score > *threshold : request.get_tensor("is_anomaly").data<bool>()[0];
        std::cout << path << '\t' << score << '\t' << p_value << '\t' << (is_anomaly ? "anomalous" : "normal")
                  << '\n';
    }
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    std::optional<float> threshold;
    std::vector<std::string> paths;
    bool valid = true;
    for (int i = 1; i < argc; ++i) {
        if (std::string(argv[i]) == "--threshold") {
            const std::string value = i + 1 < argc ? argv[++i] : "";
            char* end = nullptr;
            threshold = std::strtof(value.c_str(), &end);
            valid = valid && !value.empty() && *end == '\0';
        } else {
            paths.push_back(argv[i]);
        }
    }
    if (!valid || paths.empty()) {
        std::cerr << "usage: predict MODEL.xml [--threshold T] [IMAGE.pgm...]\n";
        return 2;
    }
    try {
        return run(paths.front(), threshold, {paths.begin() + 1, paths.end()});
    } catch (const std::exception& error) {
        std::cerr << "predict: " << error.what() << '\n';
        return 1;
    }
}
