"""What a GPU does with this project, in one call:  python -m benchmarks.gpu_suite"""
