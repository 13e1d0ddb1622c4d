"""What is learned: descriptions of learning problems. No computation at import; losses are stated in `lossflow.diagrams`."""
