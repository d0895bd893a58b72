"""The transactions: one public function is one commit."""
