"""Token sequences to run models on: the standard library's source, Hugging Face data sets and local files."""
