import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** One life of the official JDBC driver; arguments: port, storage group. Prints "life complete". */
public class JdbcLife {
  static void check(boolean holds, String what) {
    if (!holds) {
      throw new AssertionError(what);
    }
    System.out.println("ok " + what);
  }

  public static void main(String[] arguments) throws Exception {
    String url = "jdbc:iotdb://127.0.0.1:" + arguments[0] + "/";
    String sg = arguments[1];
    Class.forName("org.apache.iotdb.jdbc.IoTDBDriver");
    try (Connection connection = DriverManager.getConnection(url, "root", "root");
        Statement statement = connection.createStatement()) {
      statement.execute("CREATE TIMESERIES " + sg + ".d.b BOOLEAN");
      statement.execute("CREATE TIMESERIES " + sg + ".d.i INT32");
      statement.execute("CREATE TIMESERIES " + sg + ".d.l INT64");
      statement.execute("CREATE TIMESERIES " + sg + ".d.f FLOAT");
      statement.execute("CREATE TIMESERIES " + sg + ".d.d DOUBLE");
      statement.execute("CREATE TIMESERIES " + sg + ".d.t TEXT");
      statement.execute(
          "INSERT INTO " + sg + ".d(timestamp, b, i, l, f, d, t) VALUES"
              + " (1, true, -2147483648, -9223372036854775808, 1.5, 0.1, '测试')");
      check(
          statement.executeUpdate("INSERT INTO " + sg + ".d(timestamp, i) VALUES (2, 7)") >= 0,
          "insert");
      statement.addBatch("INSERT INTO " + sg + ".d(timestamp, i) VALUES (3, 8)");
      statement.addBatch("INSERT INTO " + sg + ".d(timestamp, i) VALUES (4, 9)");
      statement.executeBatch();
      statement.clearBatch();
      try (ResultSet rows =
          statement.executeQuery("SELECT b, i, l, f, d, t FROM " + sg + ".d WHERE time < 3")) {
        check(rows.next(), "first row");
        check(rows.getLong(1) == 1, "time");
        check(rows.getBoolean(2), "boolean");
        check(rows.getInt(3) == Integer.MIN_VALUE, "int32");
        check(rows.getLong(4) == Long.MIN_VALUE, "int64");
        check(rows.getFloat(5) == 1.5f, "float");
        check(rows.getDouble(6) == 0.1, "double");
        check("测试".equals(rows.getString(7)), "text");
        check(rows.next(), "second row");
        check(rows.getString(2) == null && rows.getInt(3) == 7, "null");
        check(!rows.next(), "end");
      }
      for (int start = 0; start < 20000; start += 1000) {
        StringBuilder values = new StringBuilder();
        for (int n = start; n < start + 1000; n++) {
          values.append(n == start ? "" : ", ").append("(").append(n).append(", ").append(n).append(")");
        }
        statement.execute("INSERT INTO " + sg + ".p(timestamp, v) VALUES " + values);
      }
      statement.setFetchSize(3000);
      int count = 0;
      try (ResultSet rows = statement.executeQuery("SELECT v FROM " + sg + ".p")) {
        while (rows.next()) {
          if (rows.getLong(1) != count || rows.getFloat(2) != count) {
            throw new AssertionError("row " + count);
          }
          count++;
        }
      }
      check(count == 20000, "paging");
      try (ResultSet rows = statement.executeQuery("SELECT count(v) FROM " + sg + ".p")) {
        check(rows.next() && rows.getLong(1) == 20000, "count");
      }
      try (ResultSet rows = statement.executeQuery("SELECT v FROM " + sg + ".p WHERE time > 30000")) {
        check(!rows.next(), "empty");
      }
      check(statement.execute("SHOW TIMESERIES " + sg + ".d.*"), "show");
      try (ResultSet rows = statement.getResultSet()) {
        int found = 0;
        while (rows.next()) {
          found++;
        }
        check(found == 6, "six series");
      }
      DatabaseMetaData metadata = connection.getMetaData();
      check(metadata.getDatabaseProductVersion() != null, "metadata");
      try {
        statement.execute("SELECT nonsense FROM");
        throw new AssertionError("a wrong statement was taken");
      } catch (SQLException refused) {
        System.out.println("ok error " + refused.getErrorCode());
      }
      statement.execute("DELETE FROM " + sg + ".p.v WHERE time < 19999");
      try (ResultSet rows = statement.executeQuery("SELECT v FROM " + sg + ".p")) {
        check(rows.next() && rows.getLong(1) == 19999 && !rows.next(), "delete");
      }
      statement.execute("DELETE TIMESERIES " + sg + ".d.*");
    }
    try (Connection refused = DriverManager.getConnection(url, "root", "wrong")) {
      throw new AssertionError("a wrong password was taken");
    } catch (SQLException expected) {
      System.out.println("ok wrong password");
    }
    System.out.println("life complete");
  }
}
