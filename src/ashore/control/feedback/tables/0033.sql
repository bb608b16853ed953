-- What a tenant stores is counted in bytes: answers that may be voted on, and votes.
ALTER TABLE feedback_receipt ADD COLUMN num_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE feedback ADD COLUMN num_bytes BIGINT NOT NULL DEFAULT 0;
UPDATE feedback_receipt SET num_bytes = 512 + LENGTH(question) + LENGTH(answer);
UPDATE feedback SET num_bytes = 512 + LENGTH(question) + LENGTH(answer) + LENGTH(correction) + LENGTH(preferred);
CREATE INDEX feedback_receipt_stored ON feedback_receipt (tenant, num_bytes) WHERE num_bytes > 0;
CREATE INDEX feedback_stored ON feedback (tenant, num_bytes) WHERE num_bytes > 0;
