"""What a retrain is worth on labelled pictures: before and after, beside a plain one."""
