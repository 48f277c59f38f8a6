"""An index sent to a store that people have, and questions asked there."""
