"""Which of several encoders a query needs: signals, predicted losses, thresholds that keep a
promise.
"""
