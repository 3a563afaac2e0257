-- Orders as a shop writes them: short transactions of inserts and updates over rows with numbers, codes, times, text and
-- JSON. zstd makes a third of the row-based events.
CREATE DATABASE shop;
USE shop;
CREATE TABLE customer (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(120) NOT NULL, name VARCHAR(80) NOT NULL,
  balance DECIMAL(12,2) NOT NULL, seen DATETIME(6) NOT NULL, settings JSON);
CREATE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, customer BIGINT UNSIGNED NOT NULL, reference BINARY(16) NOT NULL,
  state ENUM('new','paid','sent','closed') NOT NULL, total DECIMAL(12,2) NOT NULL, created DATETIME(6) NOT NULL,
  note VARCHAR(400) NOT NULL, KEY (customer));
CREATE TABLE item (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, orders BIGINT UNSIGNED NOT NULL, sku CHAR(12) NOT NULL,
  amount INT NOT NULL, price DECIMAL(10,2) NOT NULL, seal BINARY(16) NOT NULL, attributes JSON);
CREATE TABLE word (id INT NOT NULL PRIMARY KEY, text VARCHAR(20) NOT NULL);
DELIMITER //
CREATE PROCEDURE words()
BEGIN
  DECLARE i INT DEFAULT 0;
  WHILE i < 2000 DO
    INSERT INTO word VALUES (i, LEFT(TO_BASE64(UNHEX(SHA2(i, 256))), 3 + i % 9));
    SET i = i + 1;
  END WHILE;
END//
-- A page of words, of which columns are cut.
CREATE PROCEDURE page()
BEGIN
  SET SESSION group_concat_max_len = 1000000;
  SELECT GROUP_CONCAT(a.text ORDER BY RAND(1) SEPARATOR ' ') INTO @page FROM word a JOIN word b ON b.id < 4;
END//
CREATE FUNCTION sentence(length INT) RETURNS VARCHAR(400) NO SQL
  RETURN SUBSTR(@page, 1 + FLOOR(RAND() * 40000), length * 6)//
CREATE PROCEDURE customers(many INT)
BEGIN
  CALL page();
  WHILE many > 0 DO
    INSERT INTO customer (email, name, balance, seen, settings) VALUES (
      CONCAT(LEFT(SHA2(RAND(), 256), 9), '@example.com'), sentence(2), RAND() * 1000, NOW(6),
      JSON_OBJECT('theme', ELT(1 + FLOOR(RAND() * 3), 'light', 'dark', 'system'), 'newsletter', RAND() < 0.5));
    SET many = many - 1;
  END WHILE;
END//
-- One order, with up to 30 items.
CREATE PROCEDURE buy(many INT, customers INT)
BEGIN
  DECLARE placed BIGINT;
  DECLARE who BIGINT;
  CALL page();
  WHILE many > 0 DO
    SET who = 1 + FLOOR(RAND() * customers);
    START TRANSACTION;
    INSERT INTO orders (customer, reference, state, total, created, note)
      VALUES (who, UUID_TO_BIN(UUID()), 'new', RAND() * 500, NOW(6), sentence(12));
    SET placed = LAST_INSERT_ID();
    INSERT INTO item (orders, sku, amount, price, seal, attributes)
      SELECT placed, CONCAT('SKU', LPAD(FLOOR(RAND() * 20000), 9, '0')), 1 + FLOOR(RAND() * 9), RAND() * 90, RANDOM_BYTES(16),
        JSON_OBJECT('colour', text, 'size', ELT(1 + FLOOR(RAND() * 4), 'S', 'M', 'L', 'XL'), 'weight', FLOOR(RAND() * 5000))
      FROM word WHERE id < 2 + FLOOR(RAND() * 30);
    UPDATE customer SET balance = balance - RAND() * 10, seen = NOW(6) WHERE id = who;
    UPDATE orders SET state = 'paid' WHERE id = placed;
    COMMIT;
    SET many = many - 1;
  END WHILE;
END//
DELIMITER ;
CALL words();
