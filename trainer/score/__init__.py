"""What a trained network says: embeddings, distances, offsets."""
